"""The triplet loss without relabelling: the hardest pairs of contexts in the batch (Eq. 11)."""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.arguments import NonNegativeFloat
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.objectives.divergence import kl
from mbml_lightning.objectives.hooks import ContextStep, StepHook
from mbml_lightning.types import Gaussian


def context_divergences(sets: Gaussian) -> Float[Tensor, "K N K N"]:
    """d(q(c_i^n), q(c_j^n')) of all pairs of contexts at ``[i, n, j, n']``."""
    return kl(sets.map(lambda x: x[:, :, None, None]), sets.map(lambda x: x[None, None]))


def hardest_pairs(d: Float[Tensor, "K N K N"]) -> tuple[Float[Tensor, "K N"], Float[Tensor, "K N"]]:
    """Divergences from each anchor c_i^n to the farthest context of its task and the nearest one of another."""
    own = torch.eye(len(d), dtype=torch.bool, device=d.device)[:, None, :, None]
    farthest = d.masked_fill(~own, -torch.inf).amax((-2, -1))
    nearest = d.masked_fill(own, torch.inf).amin((-2, -1))
    return farthest, nearest


class HardMiningTriplet(StepHook):
    """Eq. 11: contexts of a task are near each other and far from those of other tasks; only true rewards are needed.

    Args:
        margin: m.
        weight: Factor in front of the loss, 1 in the paper.
        mining: Whether the hardest positive and negative are looked for among all contexts of a "task" (Eq. 11) or for
            each "anchor" context (official code).
        reduction: "mean" over tasks or anchors, or their "sum" (official code: 100 to 300 anchors).
    """

    def __init__(
        self,
        margin: NonNegativeFloat = 2.0,
        weight: NonNegativeFloat = 1.0,
        mining: Literal["task", "anchor"] = "anchor",
        reduction: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        self.margin, self.weight, self.mining, self.reduction = margin, weight, mining, reduction

    def forward(self, step: ContextStep) -> Float[Tensor, ""]:
        """The loss of one step; needs two contexts a task or more."""
        if step.sets is None:
            raise ConfigurationError(
                "HardMiningTriplet compares contexts of one task: set model.context_sets to 2 or more"
            )
        farthest, nearest = hardest_pairs(context_divergences(step.sets))
        if self.mining == "task":
            farthest, nearest = farthest.amax(-1), nearest.amin(-1)
        hinge = torch.relu(farthest - nearest + self.margin)
        return self.weight * (hinge.mean() if self.reduction == "mean" else hinge.sum())
