"""States as networks read them: shifted and scaled to mean 0 and deviation 1."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.mlp import MLP

SMALLEST_STD = 0.01
"""Below it a dimension of the state counts as constant, and is not blown up."""
GROWTH = 1.5
ENOUGH = 50_000


class Standardiser(nn.Module):
    """Standardises states, by statistics of all tasks' states or, in a stack, of each task's own.

    It passes states on as they are until it has seen some. Its statistics are part of a checkpoint.

    Args:
        observation_dim: Dimensions of s.
        members: Number of tasks with statistics of their own, as a tuple; none for common ones.

    Example:
        >>> import torch
        >>> from mbml_lightning.nets.standardiser import Standardiser
        >>> inputs = Standardiser(1)
        >>> inputs.follow(torch.tensor([[[3.0], [5.0]]]))  # one task with two states
        >>> inputs(torch.tensor([[4.0], [5.0]])).flatten()
        tensor([0., 1.])
    """

    mean: Tensor
    std: Tensor
    seen: Tensor

    def __init__(self, observation_dim: int, members: Sequence[int] = ()) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(*members, observation_dim))
        self.register_buffer("std", torch.ones(*members, observation_dim))
        self.register_buffer("seen", torch.zeros(tuple(members), dtype=torch.long))

    @torch.no_grad()
    def follow(self, states: Float[Tensor, "K N S"]) -> None:
        """Take the statistics anew once there are half as many states again; keep those of 50,000 and more.

        So a growing replay moves them a few times early on, and a stored batch fixes them once.
        """
        seen, count = int(self.seen.max()), states.shape[1]
        if seen < ENOUGH and count >= max(1, GROWTH * seen):
            std, mean = torch.std_mean(states, (0, 1) if self.mean.ndim == 1 else 1, correction=0)
            self.mean.copy_(mean)
            self.std.copy_(std.clamp_min(SMALLEST_STD))
            self.seen.fill_(count)

    def forward(self, s: Float[Tensor, "*n S"]) -> Float[Tensor, "*n S"]:
        """Standardise states; in a stack the axis before the last but one is that of tasks."""
        mean, std = (self.mean, self.std) if self.mean.ndim == 1 else (self.mean.unsqueeze(-2), self.std.unsqueeze(-2))
        return (s - mean) / std


@torch.no_grad()
def fold(mean: Float[Tensor, "K S"], std: Float[Tensor, "K S"], mlp: MLP) -> None:
    """Let the first layer standardise: ``mlp`` then gives for states what it gave for standardised ones.

    Args:
        mean: Statistics of each network's states.
        std: Their standard deviations.
        mlp: Networks of states alone; they are changed.
    """
    weight, bias = mlp.weights[0].data, mlp.biases[0].data
    weight /= std.unsqueeze(-1)
    bias -= torch.einsum("ks,ksh->kh", mean, weight)
