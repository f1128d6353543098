"""An actor that draws Gaussian numbers and squashes them by tanh into the box of actions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.mlp import MLP, Initializer, fan_out_uniform

LARGEST_ACTION = 0.999
"""Largest magnitude of an action in a log density; at 1 the Gaussian's u would be infinite."""


class GaussianActor(nn.Module):
    """An actor pi(a | s) = tanh(N(mean(s), std(s)^2)), or pi(a | s, z) if it is told its task.

    Args:
        observation_dim: Dimensions of s.
        action_dim: Dimensions of a.
        hidden: Widths of the hidden layers.
        z_dim: Dimensions of the task identity, 0 for none.
        members: Leading axes of a stack of independent actors.
        init: Fills the weights of a layer.
    """

    LOG_STD = (-20.0, 2.0)

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
        self.mlp = MLP([observation_dim + z_dim, *hidden, 2 * action_dim], members, init)

    def forward(
        self, s: Float[Tensor, "*n S"], z: Float[Tensor, "*n Z"] | None = None
    ) -> tuple[Float[Tensor, "*m A"], Float[Tensor, "*m A"]]:
        """Return mean and log standard deviation before the tanh."""
        mean, log_std = self.mlp(s if z is None else torch.cat([s, z], -1)).chunk(2, -1)
        return mean, log_std.clamp(*self.LOG_STD)


def squashed_sample(
    mean: Float[Tensor, "*n A"], log_std: Float[Tensor, "*n A"], noise: Float[Tensor, "*n A"]
) -> tuple[Float[Tensor, "*n A"], Float[Tensor, "*n"]]:
    """Return actions tanh(mean + std noise) and their log density, summed over the action's dimensions."""
    u = mean + log_std.exp() * noise
    log_prob = _log_density(u, log_std, noise)
    return torch.tanh(u), log_prob


def squashed_log_prob(
    mean: Float[Tensor, "*n A"], log_std: Float[Tensor, "*n A"], actions: Float[Tensor, "*n A"]
) -> Float[Tensor, "*n"]:
    """Return the log density of given actions, summed over their dimensions.

    Actions at the edge of the box, where the density is infinite, count as just inside.
    """
    u = torch.atanh(actions.clamp(-LARGEST_ACTION, LARGEST_ACTION))
    return _log_density(u, log_std, (u - mean) / log_std.exp())


def _log_density(
    u: Float[Tensor, "*n A"], log_std: Float[Tensor, "*n A"], noise: Float[Tensor, "*n A"]
) -> Float[Tensor, "*n"]:
    """Return the log density of tanh(u), where u = mean + std noise."""
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), written so that it stays finite where tanh rounds to one
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return (log_normal - log_slope).sum(-1)
