"""The interface between the vector environment and physics."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

RewardTerms = dict[str, Float64[np.ndarray, "..."]]
"""Named terms of a reward; the keys are those of the environment's info."""


class Simulation(ABC):
    """The physics of ``n`` independent environment copies, each under its own task, advanced together.

    It knows no episodes: resets, time limits and random generators are the vector environment's.

    Args:
        tasks: One for each copy, ``(n, *task_shape)``.
    """

    def __init__(self, tasks: Float64[np.ndarray, "..."]) -> None:
        self.tasks = tasks

    @abstractmethod
    def reset(self, mask: Bool[np.ndarray, " n"], generators: Sequence[np.random.Generator]) -> None:
        """Put the copies in ``mask`` at a start state, each drawn from its own generator."""

    @abstractmethod
    def step(self, actions: Float64[np.ndarray, "n A"]) -> None:
        """Advance all copies by one control step; actions are within [-1, 1]."""

    @abstractmethod
    def observe(self) -> Float32[np.ndarray, "n S"]:
        """Return the states in a new array."""

    @abstractmethod
    def outcomes(self, next_observations: Float32[np.ndarray, "n S"]) -> Float64[np.ndarray, "n O"]:
        """Return measurements of the step just taken on which rewards depend, the same under every task.

        Such as a velocity, a place, a cost of contacts; the family's ``reward_terms`` says which and in what order.
        """

    def terminated(self, next_observations: Float32[np.ndarray, "n S"]) -> Bool[np.ndarray, " n"]:
        """Tell which copies are in a terminal state: none, unless a subclass says otherwise."""
        return np.zeros(len(next_observations), dtype=np.bool_)

    @abstractmethod
    def get_state(self) -> dict[str, np.ndarray]:
        """Return copies of all arrays from which to go on bit-identically."""

    @abstractmethod
    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go back to a state that :meth:`get_state` returned."""

    @abstractmethod
    def render(self, copy: int) -> UInt8[np.ndarray, "height width 3"]:
        """Draw one environment copy and its task."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Release the resources of rendering."""
