"""The triplet loss that makes the encoder read rewards (Eq. 8 and 9)."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mbml_lightning.arguments import NonNegativeFloat
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.nets.task_encoder import product
from mbml_lightning.objectives.divergence import kl
from mbml_lightning.objectives.hooks import ContextStep, StepHook


def random_rows(count: Int[Tensor, "*n"], rows: int) -> Bool[Tensor, "*n C"]:
    """Masks of ``count`` distinct rows each, uniformly among all such sets."""
    order = torch.rand(*count.shape, rows, device=count.device).argsort(-1)
    return order < count.unsqueeze(-1)


def triplet_hinge(
    to_positive: Float[Tensor, "K K"], to_negative: Float[Tensor, "K K"], margin: float
) -> Float[Tensor, "K K"]:
    """Eq. 8 for each pair: [d(anchor, positive) - d(anchor, negative) + m]_+.

    Example:
        >>> import torch
        >>> from mbml_lightning.objectives.triplet import triplet_hinge
        >>> to_positive, to_negative = torch.tensor([[0.0, 1.0], [3.0, 0.0]]), torch.tensor([[0.0, 5.0], [2.0, 0.0]])
        >>> triplet_hinge(to_positive, to_negative, margin=2.0)
        tensor([[2., 0.],
                [3., 2.]])
    """
    return torch.relu(to_positive - to_negative + margin)


def pair_mean(
    hinge: Float[Tensor, "K K"], valid: Bool[Tensor, "K K"], margin: float, count_empty: bool
) -> Float[Tensor, ""]:
    """Eq. 9: mean over ordered pairs i != j.

    Args:
        hinge: Loss of each pair.
        valid: Pairs of different tasks of which at least one row was relabelled.
        margin: What a pair without rows counts if ``count_empty``.
        count_empty: Whether pairs without rows stay in the mean (official code) or are left out.
    """
    total = hinge.masked_fill(~valid, 0.0).sum()
    if not count_empty:
        return total / valid.sum().clamp_min(1)
    pairs = valid.shape[0] * (valid.shape[0] - 1)
    return (total + margin * (pairs - valid.sum())) / max(pairs, 1)


class RelabelledTriplet(StepHook):
    """Eq. 8 and 9: c_{j->i} is near c_i, which it shares rewards with, and far from c_j, whose (s, a) it has.

    Args:
        margin: m; the paper found 0 to 8 to work alike.
        weight: Factor in front of the loss, 1 in the paper.
        count_empty_pairs: Pairs of which no row passed the threshold count as the constant m, as in the official code,
            instead of being left out of the mean.
    """

    def __init__(
        self, margin: NonNegativeFloat = 2.0, weight: NonNegativeFloat = 1.0, count_empty_pairs: bool = False
    ) -> None:
        super().__init__()
        self.margin, self.weight, self.count_empty_pairs = margin, weight, count_empty_pairs

    def forward(self, step: ContextStep) -> Float[Tensor, ""]:
        """The loss of one step; needs a relabeller."""
        if step.relabelled is None or step.kept is None:
            raise ConfigurationError(
                "RelabelledTriplet needs relabelled contexts: set model.relabeller or remove this hook"
            )
        own, kept = step.own, step.kept
        count = kept.sum(-1)
        anchor = product(step.relabelled, kept)
        positive = product(own.map(lambda x: x.unsqueeze(1)), random_rows(count, kept.shape[-1]))
        negative = product(own.map(lambda x: x.unsqueeze(0)), kept)
        hinge = triplet_hinge(kl(anchor, positive), kl(anchor, negative), self.margin)
        return self.weight * pair_mean(hinge, count > 0, self.margin, self.count_empty_pairs)
