"""Supervised task inference: a classifier tells training tasks apart by z (UNICORN-SUP, Li et al., NeurIPS 2024)."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.arguments import NonNegativeFloat, PositiveInt
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.objectives.hooks import ContextStep, StepHook


def task_cross_entropy(logits: Float[Tensor, "K K"]) -> Float[Tensor, ""]:
    """Average -log p(i | z_i) over tasks; row i holds the logits of z_i."""
    return F.cross_entropy(logits, torch.arange(len(logits), device=logits.device))


class TaskClassifier(StepHook):
    """Cross-entropy of a classifier that reads from z to which of the K training tasks it belongs.

    It reads the z that the policy's networks are given: the sample of each task's pooled posterior. Like FOCAL it
    separates tasks, but does not ask by what: where states tell the task, rewards may stay unread.

    Args:
        hidden: Hidden layers of the classifier.
        weight: Factor in front of the loss.
    """

    mlp: MLP

    def __init__(self, hidden: Sequence[PositiveInt] = (200, 200), weight: NonNegativeFloat = 1.0) -> None:
        super().__init__()
        self.hidden, self.weight = hidden, weight

    def build(self, observation_dim: int, action_dim: int, z_dim: int, num_tasks: int) -> None:
        """Make the classifier of z; arguments as for `StepHook.build`."""
        self.mlp = MLP([z_dim, *self.hidden, num_tasks])

    def forward(self, step: ContextStep) -> Float[Tensor, ""]:
        """Return the loss of one step; it is log K where z tells nothing."""
        return self.weight * task_cross_entropy(self.mlp(step.z))
