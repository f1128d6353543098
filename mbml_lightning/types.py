"""What travels between the parts, and the alphabet of axes that every shape is written in.

Axes, in the order in which they stand: ``E`` ensemble members, ``K`` tasks, ``B`` transitions of a batch,
``C`` rows of a context, ``M`` candidate actions, ``N`` stored transitions, ``T`` time, ``S`` state, ``A`` action,
``Z`` task identity. Where two tasks meet, the first axis is the task that a reward is asked of and the second
the task that a transition comes from: ``(K, K, C)`` holds c_{j->i} at ``[i, j]``.
"""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class TaskSpec:
    """What is particular to one task distribution (Table 9 and Table 2).

    Args:
        distribution: Name of the distribution, as in the environment id ``mbml/<distribution>-v0``.
        interactions: Transitions of each task's batch, the first so many that its SAC collected (N).
        collection_steps: Environment steps of SAC on each task, warm-up included.
        bcq_updates: Gradient updates of each task's BCQ.
        relabel_threshold: Standard deviation of the reward ensemble above which a transition is not relabelled.
    """

    distribution: str
    interactions: int
    collection_steps: int
    bcq_updates: int
    relabel_threshold: float


class Transitions(NamedTuple):
    """Transitions (s, a, r, s') with any leading axes, all the same."""

    observations: Float[Tensor, "*n S"]
    actions: Float[Tensor, "*n A"]
    rewards: Float[Tensor, "*n"]
    next_observations: Float[Tensor, "*n S"]
    terminations: Float[Tensor, "*n"]  # 1 where the task ended, 0 where only the time was up


class Gaussian(NamedTuple):
    """Diagonal Gaussians, or Gaussian factors of a product."""

    mean: Float[Tensor, "*n Z"]
    variance: Float[Tensor, "*n Z"]


class Policy(Protocol):
    """All that evaluation, collection and notebooks know of a method: how it acts."""

    noise_dim: int
    """Standard normal numbers that one action needs."""

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Actions in [-1, 1] of K tasks with B simulations each.

        Args:
            observations: States.
            z: Task identities, None for a policy that knows one task (or one a stacked member).
            noise: Standard normal numbers, ``noise_dim`` for each action.
        """
        ...
