"""The seam for new objectives: a hook turns one step of task inference into further named losses."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor, nn

from mbml_lightning.errors import ConfigurationError
from mbml_lightning.nets.task_encoder import product
from mbml_lightning.types import Gaussian, Transitions


@dataclass(frozen=True)
class ContextStep:
    """One step of task inference: context rows, what the encoder made of them, and z.

    Every row was encoded once. Gradients flow from all of it into the encoder.

    Args:
        contexts: Each task's own context rows c_i, ``(K, C)``.
        own: Their Gaussian factors, ``(K, C, Z)``.
        relabelled_rows: Rows of task j with the rewards (and next states) of task i, c_{j->i} at ``[i, j]``,
            ``(K, K, C)``; the diagonal holds ``contexts``. None without a relabeller.
        relabelled: Their factors, ``(K, K, C, Z)``; the diagonal holds ``own``.
        kept: The relabelled rows that passed the ensemble's threshold, ``(K, K, C)``; False on the diagonal.
        posterior: q(z | c) of each task's inference context, ``(K, Z)``.
        z: One reparametrised sample of each posterior, ``(K, Z)``, on which the networks of this step are conditioned.
        sets: q(z | c) of n independent contexts of each task, own rows only, ``(K, n, Z)``, the first that of
            ``own``; None where only that one was drawn.
        encode: The encoder, for rows that a hook makes itself: transitions with any leading axes to their factors.
    """

    contexts: Transitions
    own: Gaussian
    relabelled_rows: Transitions | None
    relabelled: Gaussian | None
    kept: Bool[Tensor, "K K C"] | None
    posterior: Gaussian
    z: Float[Tensor, "K Z"]
    sets: Gaussian | None
    encode: Callable[[Transitions], Gaussian]

    def infer(self, rows: Transitions, mask: Bool[Tensor, "*n C"] | None = None) -> Gaussian:
        """Encode further rows ``(*n, C)`` and pool them along their last axis: q(z | rows), ``(*n, Z)``."""
        return product(self.encode(rows), mask)

    def z_of_rows(self, rows: int) -> Float[Tensor, "K B Z"]:
        """Repeat each task's z for its ``rows`` transitions."""
        return self.z.unsqueeze(1).expand(-1, rows, -1)

    @property
    def kept_fraction(self) -> Float[Tensor, ""] | None:
        """Share of relabelled rows that passed the threshold; None without a relabeller."""
        if self.kept is None:
            return None
        k, _, rows = self.kept.shape
        return self.kept.sum() / (max(k * (k - 1), 1) * rows)


class StepHook(nn.Module, ABC):
    """One more objective, computed from the step that was taken anyway.

    Its key in ``hooks`` names its losses in the log: ``<key>_loss``, or ``<key>_<term>_loss`` for each of several. A
    hook may own networks (a decoder, a classifier, an adversary), which it makes in `build`; the optimiser that trains
    the encoder trains them too. Such networks take part in every step.
    """

    def build(self, observation_dim: int, action_dim: int, z_dim: int, num_tasks: int) -> None:
        """Make the hook's own networks; called once, before there are optimisers. The default makes none.

        Args:
            observation_dim: Dimensions of states (S).
            action_dim: Dimensions of actions (A).
            z_dim: Dimensions of the task identity (Z).
            num_tasks: Training tasks (K).
        """

    @abstractmethod
    def forward(self, step: ContextStep) -> Float[Tensor, ""] | dict[str, Float[Tensor, ""]]:
        """Return the loss of one step, or several by name; all are added to the method's own."""


def hook_losses(hooks: nn.ModuleDict, step: ContextStep) -> dict[str, Float[Tensor, ""]]:
    """Collect the losses of all hooks under their logged names.

    Raises:
        ConfigurationError: If a hook returns anything but scalar tensors.
    """
    losses: dict[str, Tensor] = {}
    for name, hook in hooks.items():
        found = hook(step)
        named = {f"{name}_{term}": x for term, x in found.items()} if isinstance(found, dict) else {name: found}
        if odd := [key for key, value in named.items() if not isinstance(value, Tensor) or value.ndim]:
            raise ConfigurationError(f"model.hooks.{name}: {odd[0]} is no scalar tensor, which a loss must be")
        losses |= {f"{key}_loss": value for key, value in named.items()}
    return losses
