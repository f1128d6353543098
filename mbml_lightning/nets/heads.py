"""BCQ's three functions Q, G and xi (section 2.1), and V, for a stack of tasks or, with a task identity z, for all."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.mlp import MLP, Initializer, fan_out_uniform

LATENT_PER_ACTION = 2
"""Latent dimensions of the CVAE for each action dimension, as in BCQ."""
NOISE_CLIP = 0.5


class Head(nn.Module, ABC):
    """A network of a state and what a subclass adds to it, and of z if it is told its task.

    Args:
        observation_dim: Dimensions of s.
        action_dim: Dimensions of a.
        hidden: Widths of the hidden layers.
        z_dim: Dimensions of the task identity, 0 for none.
        members: Leading axes of a stack of independent networks.
        init: Fills the weights of a layer.
        layer_norm: Normalise what enters each ReLU.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        z_dim: int = 0,
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        inputs, outputs = self.widths(observation_dim, action_dim)
        self.mlp = MLP([inputs + z_dim, *hidden, outputs], members, init, layer_norm)

    @staticmethod
    @abstractmethod
    def widths(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """Return the width of the input without z, and that of the output."""

    def read(self, *inputs: Float[Tensor, "*n _"] | None, member: int | None = None) -> Float[Tensor, "*m out"]:
        """Apply the networks, or one ``member`` of the first stack axis, to the inputs that are given, side by side."""
        return self.mlp(torch.cat([x for x in inputs if x is not None], -1), member)


class QFunction(Head):
    """State-action value Q(s, a) or Q_D(s, a, z)."""

    @staticmethod
    def widths(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """Read (s, a), return one value."""
        return observation_dim + action_dim, 1

    def forward(
        self,
        s: Float[Tensor, "*n S"],
        a: Float[Tensor, "*n A"],
        z: Float[Tensor, "*n Z"] | None = None,
        member: int | None = None,
    ) -> Float[Tensor, "*m"]:
        """Return values ``(*members, B)``; those of one ``member`` of the first stack axis, ``(*members[1:], B)``."""
        return self.read(s, a, z, member=member).squeeze(-1)


class StateValue(Head):
    """State value V(s, z).

    Args:
        observation_dim: Dimensions of s.
        hidden: Widths of the hidden layers.
        z_dim: Dimensions of the task identity.
    """

    def __init__(self, observation_dim: int, hidden: Sequence[int], z_dim: int) -> None:
        super().__init__(observation_dim, 0, hidden, z_dim)

    @staticmethod
    def widths(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """Read s, return one value."""
        return observation_dim, 1

    def forward(self, s: Float[Tensor, "*n S"], z: Float[Tensor, "*n Z"]) -> Float[Tensor, "*n"]:
        """Return the values of states."""
        return self.read(s, z).squeeze(-1)


class CandidateGenerator(Head):
    """Candidate actions G(s, nu) or G_D(s, nu, z) in [-1, 1]^A: the decoder of BCQ's CVAE."""

    @staticmethod
    def widths(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """Read (s, nu), return an action."""
        return observation_dim + LATENT_PER_ACTION * action_dim, action_dim

    @property
    def latent_dim(self) -> int:
        """L, the dimensions of the latent noise nu."""
        return LATENT_PER_ACTION * self.mlp.sizes[-1]

    def forward(
        self, s: Float[Tensor, "*n S"], nu: Float[Tensor, "*n L"], z: Float[Tensor, "*n Z"] | None = None
    ) -> Float[Tensor, "*m A"]:
        """Propose an action for each latent noise nu."""
        return torch.tanh(self.read(s, nu, z))


class CandidateEncoder(Head):
    """The encoder of BCQ's CVAE: mean and standard deviation of the latent of (s, a), or (s, a, z)."""

    LOG_STD = (-4.0, 15.0)

    @staticmethod
    def widths(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """Read (s, a), return mean and log standard deviation of the latent."""
        return observation_dim + action_dim, 2 * LATENT_PER_ACTION * action_dim

    def forward(
        self, s: Float[Tensor, "*n S"], a: Float[Tensor, "*n A"], z: Float[Tensor, "*n Z"] | None = None
    ) -> tuple[Float[Tensor, "*m L"], Float[Tensor, "*m L"]]:
        """Return mean and standard deviation of the latent."""
        mean, log_std = self.read(s, a, z).chunk(2, -1)
        return mean, log_std.clamp(*self.LOG_STD).exp()


class Perturbation(Head):
    """Correction xi(s, a) or xi_D(s, a, z) in [-1, 1]^A, to be scaled by Phi before it is added."""

    @staticmethod
    def widths(observation_dim: int, action_dim: int) -> tuple[int, int]:
        """Read (s, a), return a correction of a."""
        return observation_dim + action_dim, action_dim

    def forward(
        self, s: Float[Tensor, "*n S"], a: Float[Tensor, "*n A"], z: Float[Tensor, "*n Z"] | None = None
    ) -> Float[Tensor, "*m A"]:
        """Return the unscaled correction of action a."""
        return torch.tanh(self.read(s, a, z))


def perturb(actions: Float[Tensor, "*n A"], correction: Float[Tensor, "*n A"], phi: float) -> Float[Tensor, "*n A"]:
    """Correct candidates, a + Phi xi(s, a), and keep them inside [-1, 1]^A (Eq. 1)."""
    return (actions + phi * correction).clamp(-1, 1)


def clipped_noise(noise: Float[Tensor, "*n L"]) -> Float[Tensor, "*n L"]:
    """Clip standard normal numbers to +-0.5, which makes them latent noise nu."""
    return noise.clamp(-NOISE_CLIP, NOISE_CLIP)


def best_candidate(actions: Float[Tensor, "*n M A"], q: Float[Tensor, "*n M"]) -> Float[Tensor, "*n A"]:
    """Choose the corrected candidate of highest value (Eq. 1)."""
    best = q.argmax(-1)[..., None, None].expand(*actions.shape[:-2], 1, actions.shape[-1])  # (*n, 1, A)
    return torch.gather(actions, -2, best).squeeze(-2)
