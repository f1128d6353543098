"""PointGoal: a point on a plane goes to a goal on an arc, the toy of Figure 1 and of the fast tests."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from mbml_lightning.envs.distribution import Actions, Outcomes, States, TaskDistribution, Tasks
from mbml_lightning.envs.simulation import RewardTerms, Simulation

SPEED = 0.1  # distance on each axis that an action of 1 covers in a step: the arc is 10 steps away at most
START_NOISE = 0.05
REACH = 2.0  # what 20 steps along an axis cover

# Angles of the goals on the unit circle, in degrees: the test goals lie between the training goals, ood beyond.
OFFICIAL_ANGLES = {
    "train": (0.0, 45.0, 90.0, 135.0, 180.0),
    "test": (22.5, 67.5, 112.5, 157.5),
    "ood": (-45.0, -22.5, 202.5, 225.0),
}


class PointSimulation(Simulation):
    """The point: states and outcomes (x, y), actions velocities."""

    def __init__(self, goals: Float64[np.ndarray, "n 2"]) -> None:
        super().__init__(goals)
        self._positions = np.zeros_like(goals)

    def reset(self, mask: Bool[np.ndarray, " n"], generators: Sequence[np.random.Generator]) -> None:
        """Put points at the origin, up to a little noise."""
        for copy in np.flatnonzero(mask).tolist():
            self._positions[copy] = generators[copy].uniform(-START_NOISE, START_NOISE, size=2)

    def step(self, actions: Float64[np.ndarray, "n 2"]) -> None:
        """Move each point by SPEED times its action."""
        self._positions += SPEED * actions

    def observe(self) -> Float32[np.ndarray, "n 2"]:
        """Return the positions (x, y)."""
        return self._positions.astype(np.float32)

    def outcomes(self, next_observations: Float32[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
        """Return the position after the step, as observed."""
        return next_observations.astype(np.float64)

    def get_state(self) -> dict[str, np.ndarray]:
        """Return the positions in full precision."""
        return {"positions": self._positions.copy()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Write the positions of all copies."""
        self._positions[...] = state["positions"]

    def render(self, copy: int) -> UInt8[np.ndarray, "height width 3"]:
        """Draw the goal as a green disc, the point as a blue one, within REACH of the origin."""
        x, y = np.meshgrid(np.linspace(-REACH, REACH, 256), np.linspace(REACH, -REACH, 256))
        picture = np.full((256, 256, 3), 255, dtype=np.uint8)
        for centre, colour in ((self.tasks[copy], (50, 180, 50)), (self._positions[copy], (50, 80, 200))):
            picture[np.hypot(x - centre[0], y - centre[1]) <= 0.1] = colour
        return picture


@dataclass(frozen=True)
class PointGoal(TaskDistribution):
    """Go to a goal on the upper half of the unit circle from its centre; it never terminates."""

    family = "PointGoal"
    horizon = 20
    observation_dim = 2
    action_dim = 2
    task_shape = (2,)
    task_meaning = f"a goal (x, y) within {REACH} of the origin"
    planar = True
    frames_per_second = 10

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, "n 2"]]:
        """Task sets of our own, since the paper has no such distribution."""
        return {split: _on_circle(np.deg2rad(angles)) for split, angles in OFFICIAL_ANGLES.items()}

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """Draw goals uniformly on the arc of the training goals."""
        return _on_circle(rng.uniform(0.0, np.pi, size=n))

    def contains(self, tasks: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Accept goals that can be reached within the horizon."""
        return np.hypot(tasks[:, 0], tasks[:, 1]) <= REACH

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute -||xy' - g||_2, of the position after the step.

        Not exp(-distance): a point that stays at its goal then earns 0 instead of 1 for ever, so that the value of
        acting well is a short sum (about -5) and not 1 / (1 - discount) = 100, and critics converge in few backups.
        """
        offset = np.subtract(outcomes, tasks, dtype=np.float64)
        return {"reward_goal": -np.hypot(offset[..., 0], offset[..., 1])}

    def observed_outcomes(self, observations: States, next_observations: States) -> Float64[np.ndarray, "... 2"]:
        """Return the position after the step."""
        return next_observations.astype(np.float64)

    def simulation(self, tasks: Float64[np.ndarray, "n 2"], num_threads: int) -> PointSimulation:
        """Make points, each with its own goal; NumPy uses no threads here."""
        return PointSimulation(tasks)


def _on_circle(angles: Float64[np.ndarray, " n"]) -> Float64[np.ndarray, "n 2"]:
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)
