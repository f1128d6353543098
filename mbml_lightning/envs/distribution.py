"""A distribution of tasks: its official sets, how new tasks are drawn, and what a transition is worth."""

import functools
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from typing import Any, ClassVar

import numpy as np
from gymnasium.spaces import Box
from jaxtyping import Bool, Float, Float64

from mbml_lightning.envs.simulation import RewardTerms, Simulation
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.splits import SPLITS

# Arrays of transitions and of the tasks that their rewards are asked of; leading axes broadcast as in NumPy.
Tasks = Float[np.ndarray, "..."]
"""Any leading axes, then ``task_shape``."""
States = Float[np.ndarray, "... S"]
Actions = Float[np.ndarray, "... A"]
"""In [-1, 1]."""
Outcomes = Float[np.ndarray, "... O"]
"""The simulation's measurements of a step, see :meth:`Simulation.outcomes`."""


@functools.cache
def official_tasks(name: str) -> dict[str, Any]:
    """Read the entry of one distribution, by the paper's name, in the table of the authors' task sets."""
    table = resources.files("mbml_lightning.envs").joinpath("official_tasks.json").read_text(encoding="utf-8")
    return json.loads(table)[name]


def official_splits(name: str, splits: Sequence[str] = SPLITS) -> dict[str, Float64[np.ndarray, "..."]]:
    """Read the task sets of one distribution in that table into new arrays."""
    entry = official_tasks(name)
    return {split: np.array(entry[split], dtype=np.float64) for split in splits}


@dataclass(frozen=True)
class TaskDistribution(ABC):
    """A family of tasks that share states, actions and horizon (Table 9 of the paper).

    The single environment, the vector environment and the relabelling oracle all take the family's definition from
    here. Arrays of tasks are ``(n, *task_shape)``, float64. A subclass is a frozen dataclass whose fields are its
    options, each with a default: decisions on which the paper is silent or differs from its code. It may live in
    any module, see :func:`mbml_lightning.envs.register`.
    """

    family: ClassVar[str]
    """The name without options, the paper's where it has one; a word that no other distribution has."""
    horizon: ClassVar[int]
    """Steps after which an episode is truncated."""
    action_dim: ClassVar[int]
    task_shape: ClassVar[tuple[int, ...]]
    task_meaning: ClassVar[str]
    """A task in words and where it must lie, for error messages."""
    planar: ClassVar[bool] = False
    """Observations begin with a position (x, y) in the plane, in which the task is a goal."""
    copies_per_thread: ClassVar[int] = 32
    """With fewer copies than this for each thread, waking a thread costs more than it saves."""

    @property
    def name(self) -> str:
        """The family and the options that are not the defaults, as in ``AntDir+contact_forces=True``.

        Stores, checkpoints and evaluations carry it, so that those of other options are rejected.
        """
        return "+".join([self.family, *(f"{option}={value}" for option, value in self.options.items())])

    @property
    def options(self) -> dict[str, Any]:
        """Values of the options that are not the defaults, by their names."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {field.name: values[field.name] for field in fields(self) if values[field.name] != field.default}

    @property
    def env_id(self) -> str:
        """The id under which Gymnasium makes its environments."""
        return f"mbml/{self.family}-v0"

    @property
    @abstractmethod
    def observation_dim(self) -> int:
        """Dimensions of an observation (S)."""

    @property
    @abstractmethod
    def frames_per_second(self) -> int:
        """Number of control steps in a second of the simulated world, rounded."""

    @property
    def observation_space(self) -> Box:
        """Space of states, float32 and unbounded; a new one each time, since a space holds a random generator."""
        return Box(-np.inf, np.inf, (self.observation_dim,), np.float32)

    @property
    def action_space(self) -> Box:
        """Space of actions, float32, in [-1, 1]^A whatever the actuators' range."""
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
        """Tell which of the finite ``tasks`` belong to the family."""

    @abstractmethod
    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute the named terms whose sum is the reward of a transition under a task.

        Leading axes broadcast: rewards of transitions ``(N, .)`` under K tasks need tasks ``(K, 1, *task_shape)``.

        Args:
            tasks: Tasks under which transitions are rewarded.
            actions: In [-1, 1].
            outcomes: The simulation's measurements of the step, see :meth:`Simulation.outcomes`.
        """

    @abstractmethod
    def simulation(self, tasks: Float64[np.ndarray, "..."], num_threads: int) -> Simulation:
        """Make as many environment copies as tasks, copy i under ``tasks[i]``."""

    def observed_outcomes(self, observations: States, next_observations: States) -> Float64[np.ndarray, "... O"]:
        """Compute the outcomes of stored transitions from their states, where states tell them.

        Raises:
            ConfigurationError: The reward is of something that states do not hold, such as a robot's place.
        """
        raise ConfigurationError(
            f"{self.name}: its reward depends on more than (s, a, s'), so stored transitions do not tell it"
        )

    @property
    def unobserved_outcomes(self) -> int:
        """Number of outcomes of a step that states do not tell, so that stores keep them; 0 where they do."""
        return 0

    def reward(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> Float64[np.ndarray, "..."]:
        """Compute the reward, the sum of :meth:`reward_terms`."""
        return functools.reduce(np.add, self.reward_terms(tasks, actions, outcomes).values())

    def tasks(self, split: str) -> Float64[np.ndarray, "..."]:
        """Return the official set "train", "test" (on which the paper reports) or, where there is one, "ood".

        Raises:
            ConfigurationError: There is no such set.
        """
        splits = self.splits
        if split not in splits:
            raise ConfigurationError(f"{self.name} has no task set {split!r}: choose one of {', '.join(splits)}")
        return splits[split]

    def recorded_tasks(self, record: Mapping[str, Any], split: str, count: int) -> Float64[np.ndarray, "..."]:
        """Return the ``tasks`` of a file's record; a record of before them is of the first official ones."""
        found = record.get("tasks")
        return self.tasks(split)[:count] if found is None else self.validate_tasks(found)

    def validate_tasks(self, tasks: np.ndarray | Sequence[Any]) -> Float64[np.ndarray, "..."]:
        """Check tasks and return them as a new array ``(n, *task_shape)``.

        Raises:
            ConfigurationError: Not numbers, of another shape, not finite, or not of this family.
        """
        try:
            array = np.array(tasks, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ConfigurationError(f"{self.name}: tasks are not an array of numbers: {error}") from error
        if array.ndim != 1 + len(self.task_shape) or array.shape[1:] != self.task_shape or not len(array):
            shape = ", ".join(("n", *map(str, self.task_shape)))
            raise ConfigurationError(f"{self.name}: tasks have shape {array.shape}, expected ({shape}), n >= 1")
        finite = np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        good = finite & self.contains(np.where(np.isfinite(array), array, 0.0))
        if not good.all():
            first = int(np.argmin(good))
            bad = array[first]
            value = f"is {bad.tolist()}" if bad.size <= 4 else f"has values from {bad.min():.4g} to {bad.max():.4g}"
            raise ConfigurationError(f"{self.name}: task {first} {value}, expected {self.task_meaning}")
        return array
