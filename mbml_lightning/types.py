"""Types that travel between the rooms, and the letters in which all shapes are written.

Axes, in the order in which they stand: ``E`` ensemble members, ``K`` tasks, ``B`` transitions of a batch,
``C`` rows of a context, ``M`` candidate actions, ``N`` stored transitions, ``T`` time, ``S`` state, ``A`` action,
``Z`` task identity. Where two tasks meet, the first axis is the task that a reward is asked of and the second
the task that a transition comes from: ``(K, K, C)`` holds c_{j->i} at ``[i, j]``.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor


class Transitions(NamedTuple):
    """Transitions (s, a, r, s') with any leading axes, all the same."""

    observations: Float[Tensor, "*n S"]
    actions: Float[Tensor, "*n A"]
    rewards: Float[Tensor, "*n"]
    next_observations: Float[Tensor, "*n S"]
    terminations: Float[Tensor, "*n"]  # 1 where the task ended, 0 where only the time was up

    def map(self, change: Callable[[Tensor], Tensor]) -> "Transitions":
        """Apply ``change`` to every field, such as a slice of the leading axes that they share."""
        return Transitions(*(change(x) for x in self))


class Gaussian(NamedTuple):
    """Diagonal Gaussians, or Gaussian factors of a product."""

    mean: Float[Tensor, "*n Z"]
    variance: Float[Tensor, "*n Z"]

    def map(self, change: Callable[[Tensor], Tensor]) -> "Gaussian":
        """Apply ``change`` to mean and variance, such as a slice of the leading axes that they share."""
        return Gaussian(change(self.mean), change(self.variance))


class TaskBatch(NamedTuple):
    """Batch of one update, for all K tasks.

    Attributes:
        transitions: Transitions to learn from, ``(K, B)``.
        contexts: Transitions to infer the task from, ``(K, C)``, or ``(K, n C)`` for n contexts one after the other;
            None for methods without task inference.
        context_index: Which of each task's stored transitions the context rows are, ``(K, C)``.
    """

    transitions: Transitions
    contexts: Transitions | None = None
    context_index: Int[Tensor, "K C"] | None = None


@runtime_checkable
class Policy(Protocol):
    """Anything that acts: evaluation, collection and notebooks know no more of a method."""

    @property
    def noise_dim(self) -> int:
        """Number of standard normal numbers that one action needs."""
        ...

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Choose actions in [-1, 1] of K tasks with B simulations each.

        Args:
            observations: States.
            z: Task identities, None for a policy that knows one task (or one a stacked member).
            noise: Standard normal numbers, ``noise_dim`` for each action.
        """
        ...
