"""What a distribution of tasks is: its official sets, how new tasks are drawn, and what a transition is worth."""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
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


def official_splits(
    name: str, splits: Sequence[str] = ("train", "test", "ood")
) -> dict[str, Float64[np.ndarray, "..."]]:
    """Task sets of one distribution in that table, in new arrays."""
    entry = official_tasks(name)
    return {split: np.array(entry[split], dtype=np.float64) for split in splits}


@dataclass(frozen=True)
class TaskDistribution(ABC):
    """A family of tasks that share states, actions and horizon (Table 9 of the paper).

    The one place where a family is defined: the single environment, the vector environment and the relabelling
    oracle all ask it. Arrays of tasks are ``(n, *task_shape)``, float64. A subclass is a frozen dataclass whose fields
    are its options: decisions on which the paper is silent or differs from its code.
    """

    family: ClassVar[str]
    """The paper's name, without options."""
    horizon: ClassVar[int]
    """Steps after which an episode is truncated."""
    action_dim: ClassVar[int]
    task_shape: ClassVar[tuple[int, ...]]
    task_meaning: ClassVar[str]
    """What a task is and where it must lie, for error messages."""
    copies_per_thread: ClassVar[int] = 32
    """With fewer copies than this for each thread, waking a thread costs more than it saves."""

    @property
    def name(self) -> str:
        """The family and the options that are not the defaults, ``AntDir+contact_forces=True``.

        Stores, checkpoints and run folders carry it, so that what belongs to other options is refused.
        """
        return "+".join([self.family, *(f"{option}={value}" for option, value in self.options.items())])

    @property
    def options(self) -> dict[str, Any]:
        """The options that are not the defaults."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}

    @property
    def env_id(self) -> str:
        """Gymnasium's id."""
        return f"mbml/{self.family}-v0"

    @property
    @abstractmethod
    def observation_dim(self) -> int:
        """S."""

    @property
    @abstractmethod
    def frames_per_second(self) -> int:
        """Control steps in a second of the simulated world, rounded."""

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
        actions: Float[np.ndarray, "... A"],
        outcomes: Float[np.ndarray, "... O"],
    ) -> RewardTerms:
        """The named terms whose sum is the reward of a transition under a task; leading axes broadcast as in NumPy.

        To ask K tasks about the same transitions ``(N, .)``, give tasks as ``(K, 1, *task_shape)``.

        Args:
            tasks: Whose reward is asked for.
            actions: In [-1, 1].
            outcomes: What the simulation measured of the step, see :meth:`Simulation.outcomes`.
        """

    @abstractmethod
    def simulation(self, tasks: Float64[np.ndarray, "..."], num_threads: int) -> Simulation:
        """As many copies as tasks, copy i under ``tasks[i]``."""

    def observed_outcomes(
        self, observations: Float[np.ndarray, "... S"], next_observations: Float[np.ndarray, "... S"]
    ) -> Float64[np.ndarray, "... O"]:
        """The outcomes of stored transitions, where states tell them.

        Raises:
            ValueError: The reward is of something that states do not hold, such as a robot's place in the world.
        """
        raise ValueError(
            f"{self.name}: its reward depends on more than (s, a, s'), so stored transitions do not tell it"
        )

    @property
    def unobserved_outcomes(self) -> int:
        """How many outcomes a step has that states do not tell, so that stores keep them; 0 where they do tell."""
        return 0

    def reward(
        self,
        tasks: Float[np.ndarray, "..."],
        actions: Float[np.ndarray, "... A"],
        outcomes: Float[np.ndarray, "... O"],
    ) -> Float64[np.ndarray, "..."]:
        """The reward, the sum of :meth:`reward_terms`."""
        return functools.reduce(np.add, self.reward_terms(tasks, actions, outcomes).values())

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
            bad = array[first]
            value = f"is {bad.tolist()}" if bad.size <= 4 else f"has values from {bad.min():.4g} to {bad.max():.4g}"
            raise ValueError(f"{self.name}: task {first} {value}, expected {self.task_meaning}")
        return array
