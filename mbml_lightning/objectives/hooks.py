"""The seam for new objectives: a hook turns the step already taken into one more named loss."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mbml_lightning.types import Gaussian


class ContextStep(NamedTuple):
    """What task inference knows in one step; every row was encoded once.

    Attributes:
        own: Gaussian factors of each task's own context rows, ``(K, C, Z)``.
        relabelled: Factors of c_{j->i} at ``[i, j]``, ``(K, K, C, Z)``; the diagonal holds ``own``. None without a
            relabeller.
        kept: Which relabelled rows passed the ensemble's threshold, ``(K, K, C)``; False on the diagonal.
        posterior: q(z | c) of each task's inference context, ``(K, Z)``.
        sets: q(z | c) of N independent contexts of each task, own rows only, ``(K, N, Z)``, the first that of
            ``own``; None where only that one was drawn.
    """

    own: Gaussian
    relabelled: Gaussian | None
    kept: Bool[Tensor, "K K C"] | None
    posterior: Gaussian
    sets: Gaussian | None = None


class StepHook(nn.Module, ABC):
    """One more loss term, computed from what the step already has. Its key in ``hooks`` is its logged name."""

    @abstractmethod
    def forward(self, step: ContextStep) -> Float[Tensor, ""]:
        """The loss, added to the others."""
