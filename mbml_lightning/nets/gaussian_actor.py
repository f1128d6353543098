"""SAC's actor: a Gaussian squashed by tanh into the box of actions."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.stacked import MLP, Initializer, fan_out_uniform


class GaussianActor(nn.Module):
    """pi(a | s) = tanh(N(mean(s), std(s)^2)).

    Args:
        observation_dim: Dimensions of s.
        action_dim: Dimensions of a.
        hidden: Widths of the hidden layers.
        members: Leading axes of a stack of independent actors.
        init: Fills the weights of a layer.
    """

    LOG_STD = (-20.0, 2.0)

    def __init__(
        self,
        observation_dim: int,
        action_dim: int,
        hidden: Sequence[int],
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
    ) -> None:
        super().__init__()
        self.mlp = MLP([observation_dim, *hidden, 2 * action_dim], members, init)

    def forward(self, s: Float[Tensor, "*n S"]) -> tuple[Float[Tensor, "*m A"], Float[Tensor, "*m A"]]:
        """Mean and log standard deviation before the tanh."""
        mean, log_std = self.mlp(s).chunk(2, -1)
        return mean, log_std.clamp(*self.LOG_STD)


def squashed_sample(
    mean: Float[Tensor, "*n A"], log_std: Float[Tensor, "*n A"], noise: Float[Tensor, "*n A"]
) -> tuple[Float[Tensor, "*n A"], Float[Tensor, "*n"]]:
    """Actions tanh(mean + std noise) and their log density, summed over the action's dimensions."""
    u = mean + log_std.exp() * noise
    log_normal = -0.5 * noise.square() - log_std - 0.5 * math.log(2 * math.pi)
    # log(1 - tanh(u)^2), written so that it stays finite where tanh rounds to one
    log_slope = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), (log_normal - log_slope).sum(-1)
