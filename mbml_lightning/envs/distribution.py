"""What a distribution of tasks is: its official sets, how new tasks are drawn, and what a transition is worth."""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float64

from mbml_lightning.envs.simulation import RewardTerms, Simulation


@functools.cache
def official_tasks(name: str) -> dict[str, Any]:
    """The entry of one distribution in the table of the authors' task sets, by the paper's name."""
    table = resources.files("mbml_lightning.envs").joinpath("official_tasks.json").read_text(encoding="utf-8")
    entry: dict[str, Any] = json.loads(table)[name]
    return entry


class TaskDistribution(ABC):
    """A family of tasks that share states, actions and horizon (Table 9 of the paper).

    The one place where a family is defined: the single environment, the vector environment and the relabelling
    oracle all ask it. Arrays of tasks are ``(n, *task_shape)``, float64.
    """

    name: ClassVar[str]
    horizon: ClassVar[int]
    """Steps after which an episode is truncated."""
    observation_dim: ClassVar[int]
    action_dim: ClassVar[int]
    task_shape: ClassVar[tuple[int, ...]]
    task_meaning: ClassVar[str]
    """What a task is and where it must lie, for error messages."""
    frames_per_second: ClassVar[int]
    """Control steps in a second of the simulated world."""
    copies_per_thread: ClassVar[int] = 32
    """With fewer copies than this for each thread, waking a thread costs more than it saves."""

    @property
    def env_id(self) -> str:
        """Gymnasium's id."""
        return f"mbml/{self.name}-v0"

    @property
    def observation_space(self) -> Box:
        """States, float32, unbounded. A new space each time, since a space holds a random generator."""
        return Box(-np.inf, np.inf, (self.observation_dim,), np.float32)

    @property
    def action_space(self) -> Box:
        """Actions, float32, in [-1, 1]^A whatever the actuators' range."""
        return Box(-1.0, 1.0, (self.action_dim,), np.float32)

    @property
    @abstractmethod
    def splits(self) -> dict[str, Float64[np.ndarray, "..."]]:
        """The official task sets by name, in new arrays."""

    @abstractmethod
    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "..."]:
        """Draw ``n`` new tasks of the same distribution."""

    @abstractmethod
    def contains(self, tasks: Float64[np.ndarray, "..."]) -> Bool[np.ndarray, " n"]:
        """Which of the finite ``tasks`` belong to the family."""

    @abstractmethod
    def reward_terms(
        self,
        tasks: Float[np.ndarray, "..."],
        observations: Float[np.ndarray, "... S"],
        actions: Float[np.ndarray, "... A"],
        next_observations: Float[np.ndarray, "... S"],
    ) -> RewardTerms:
        """The named terms whose sum is R(s, a, s') under a task; leading axes broadcast as in NumPy.

        To ask K tasks about the same transitions ``(N, S)``, give tasks as ``(K, 1, *task_shape)``.
        """

    @abstractmethod
    def simulation(self, tasks: Float64[np.ndarray, "..."], num_threads: int) -> Simulation:
        """As many copies as tasks, copy i under ``tasks[i]``."""

    def reward(
        self,
        tasks: Float[np.ndarray, "..."],
        observations: Float[np.ndarray, "... S"],
        actions: Float[np.ndarray, "... A"],
        next_observations: Float[np.ndarray, "... S"],
    ) -> Float64[np.ndarray, "..."]:
        """R(s, a, s'), the sum of :meth:`reward_terms`."""
        terms = self.reward_terms(tasks, observations, actions, next_observations)
        return functools.reduce(np.add, terms.values())

    def tasks(self, split: str) -> Float64[np.ndarray, "..."]:
        """The official set ``split``: "train", "test" (on which the paper reports) or "ood" where there is one.

        Raises:
            ValueError: There is no such set.
        """
        splits = self.splits
        if split not in splits:
            raise ValueError(f"{self.name} has no task set {split!r}: choose one of {', '.join(splits)}")
        return splits[split]

    def validate_tasks(self, tasks: np.ndarray | Sequence[Any]) -> Float64[np.ndarray, "..."]:
        """The tasks as an array ``(n, *task_shape)``.

        Raises:
            ValueError: Not numbers, of another shape, not finite, or not of this family.
        """
        try:
            array = np.array(tasks, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{self.name}: tasks are not an array of numbers: {error}") from error
        if array.ndim != 1 + len(self.task_shape) or array.shape[1:] != self.task_shape or not len(array):
            shape = ", ".join(("n", *map(str, self.task_shape)))
            raise ValueError(f"{self.name}: tasks have shape {array.shape}, expected ({shape}), n >= 1")
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        good = finite & self.contains(np.where(np.isfinite(array), array, 0.0))
        if not good.all():
            first = int(np.argmin(good))
            raise ValueError(f"{self.name}: task {first} is {array[first].tolist()}, expected {self.task_meaning}")
        return array
