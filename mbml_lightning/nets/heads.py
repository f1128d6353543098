"""BCQ's three functions Q, G and xi (section 2.1), for a stack of tasks or, with a task identity z, for all of them."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.mlp import MLP, Initializer, fan_out_uniform

LATENT_PER_ACTION = 2
"""Latent dimensions of the CVAE for each action dimension, as in BCQ."""
NOISE_CLIP = 0.5


def _join(*inputs: Tensor | None) -> Tensor:
    return torch.cat([x for x in inputs if x is not None], -1)


class QFunction(nn.Module):
    """State-action value Q(s, a) or Q_D(s, a, z).

    Args:
        observation_dim: Dimensions of s.
        action_dim: Dimensions of a.
        hidden: Widths of the hidden layers.
        z_dim: Dimensions of the task identity, 0 for none.
        members: Leading axes of a stack of independent functions.
        init: Fills the weights of a layer.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        z_dim: int = 0,
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
    ) -> None:
        super().__init__()
        self.mlp = MLP([observation_dim + action_dim + z_dim, *hidden, 1], members, init)

    def forward(
        self,
        s: Float[Tensor, "*n S"],
        a: Float[Tensor, "*n A"],
        z: Float[Tensor, "*n Z"] | None = None,
        member: int | None = None,
    ) -> Float[Tensor, "*m"]:
        """Values, ``(*members, B)``; those of one ``member`` of the first stack axis, ``(*members[1:], B)``."""
        values: Tensor = self.mlp(_join(s, a, z), member).squeeze(-1)
        return values


class StateValue(nn.Module):
    """State value V(s, z).

    Args:
        observation_dim: Dimensions of s.
        hidden: Widths of the hidden layers.
        z_dim: Dimensions of the task identity.
    """

    def __init__(self, observation_dim: int, hidden: Sequence[int], z_dim: int) -> None:
        super().__init__()
        self.mlp = MLP([observation_dim + z_dim, *hidden, 1])

    def forward(self, s: Float[Tensor, "*n S"], z: Float[Tensor, "*n Z"]) -> Float[Tensor, "*n"]:
        """Values."""
        values: Tensor = self.mlp(_join(s, z)).squeeze(-1)
        return values


class CandidateGenerator(nn.Module):
    """Candidate actions G(s, nu) or G_D(s, nu, z): the decoder of BCQ's CVAE, in [-1, 1]^A.

    Args: as for `QFunction`.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        z_dim: int = 0,
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
    ) -> None:
        super().__init__()
        self.latent_dim = LATENT_PER_ACTION * action_dim
        self.mlp = MLP([observation_dim + self.latent_dim + z_dim, *hidden, action_dim], members, init)

    def forward(
        self, s: Float[Tensor, "*n S"], nu: Float[Tensor, "*n L"], z: Float[Tensor, "*n Z"] | None = None
    ) -> Float[Tensor, "*m A"]:
        """Candidates for latent noise nu."""
        return torch.tanh(self.mlp(_join(s, nu, z)))


class CandidateEncoder(nn.Module):
    """The encoder of BCQ's CVAE: mean and standard deviation of the latent of (s, a), or (s, a, z).

    Args: as for `QFunction`.
    """

    LOG_STD = (-4.0, 15.0)

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        z_dim: int = 0,
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
    ) -> None:
        super().__init__()
        latent_dim = LATENT_PER_ACTION * action_dim
        self.mlp = MLP([observation_dim + action_dim + z_dim, *hidden, 2 * latent_dim], members, init)

    def forward(
        self, s: Float[Tensor, "*n S"], a: Float[Tensor, "*n A"], z: Float[Tensor, "*n Z"] | None = None
    ) -> tuple[Float[Tensor, "*m L"], Float[Tensor, "*m L"]]:
        """Mean and standard deviation of the latent."""
        mean, log_std = self.mlp(_join(s, a, z)).chunk(2, -1)
        return mean, log_std.clamp(*self.LOG_STD).exp()


class Perturbation(nn.Module):
    """Correction xi(s, a) or xi_D(s, a, z) in [-1, 1]^A, to be scaled by Phi before it is added.

    Args: as for `QFunction`.
    """

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        z_dim: int = 0,
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
    ) -> None:
        super().__init__()
        self.mlp = MLP([observation_dim + action_dim + z_dim, *hidden, action_dim], members, init)

    def forward(
        self, s: Float[Tensor, "*n S"], a: Float[Tensor, "*n A"], z: Float[Tensor, "*n Z"] | None = None
    ) -> Float[Tensor, "*m A"]:
        """The unscaled correction of action a."""
        return torch.tanh(self.mlp(_join(s, a, z)))


def perturb(actions: Float[Tensor, "*n A"], correction: Float[Tensor, "*n A"], phi: float) -> Float[Tensor, "*n A"]:
    """Corrected candidates, a + Phi xi(s, a), inside [-1, 1]^A (Eq. 1)."""
    return (actions + phi * correction).clamp(-1, 1)


def clipped_noise(noise: Float[Tensor, "*n L"]) -> Float[Tensor, "*n L"]:
    """Latent noise nu, a standard normal clipped to +-0.5."""
    return noise.clamp(-NOISE_CLIP, NOISE_CLIP)


def best_candidate(actions: Float[Tensor, "*n M A"], q: Float[Tensor, "*n M"]) -> Float[Tensor, "*n A"]:
    """The corrected candidate of highest value (Eq. 1)."""
    best = q.argmax(-1)[..., None, None].expand(*actions.shape[:-2], 1, actions.shape[-1])
    return torch.gather(actions, -2, best).squeeze(-2)
