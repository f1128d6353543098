"""Policies that act with a tanh-Gaussian actor, or at random."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.gaussian_actor import GaussianActor, squashed_sample


@dataclass(frozen=True)
class GaussianPolicy:
    """A stack of actors, one a task, or one actor of all tasks given z.

    Args:
        actor: The actor.
        deterministic: Act with the mean, as in evaluation, instead of a sample.
        action_dim: Dimensions of an action.
        inputs: What the actor sees of a state.
    """

    actor: GaussianActor
    action_dim: int
    deterministic: bool = False
    inputs: Callable[[Tensor], Tensor] = field(default_factory=nn.Identity)

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action needs: one for each dimension, none to act with the mean."""
        return 0 if self.deterministic else self.action_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Return the squashed mean, or a squashed sample."""
        mean, log_std = self.actor(self.inputs(observations), z)
        return torch.tanh(mean) if self.deterministic else squashed_sample(mean, log_std, noise)[0]


@dataclass(frozen=True)
class UniformPolicy:
    """Actions uniform in [-1, 1]^A whatever the state: the score of knowing nothing.

    Args:
        action_dim: Dimensions of an action.
    """

    action_dim: int

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action needs: one for each dimension."""
        return self.action_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Turn normal noise into uniform actions by the normal's distribution function."""
        return torch.erf(noise / 2**0.5)
