"""Tasks that are directions in the plane, in which AntDir and HumanoidDir-M run as fast as they can."""

from typing import ClassVar

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float64

from mbml_lightning.envs.distribution import TaskDistribution, official_splits

ARC = 2 * np.pi / 3  # 120 degrees, on which the paper's training and test directions lie


class DirectionTasks(TaskDistribution):
    """Distributions whose tasks are angles in radians, drawn on the official arc."""

    task_shape = ()
    task_meaning = "a direction in [0, 2 pi) radians"
    official: ClassVar[str]
    """The name in the authors' table."""

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """The official sets: ten training directions, eight test directions, eight beyond the arc."""
        return official_splits(self.official)

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
        """Draw uniformly on the arc, from which the official training directions were picked by hand."""
        return rng.uniform(0.0, ARC, size=n)

    def contains(self, tasks: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Accept one full turn, which angles in degrees exceed."""
        return (tasks >= 0) & (tasks < 2 * np.pi)


def speed_towards(
    directions: Float[np.ndarray, "..."], velocities: Float[np.ndarray, "... 2"]
) -> Float64[np.ndarray, "..."]:
    """Compute <v, (cos g, sin g)>, the speed in the direction g."""
    x, y = velocities[..., 0], velocities[..., 1]
    return x * np.cos(directions) + y * np.sin(directions)


def mark_direction(data: mujoco.MjData, direction: float) -> None:
    """Put the marker two metres from the robot, in the direction that it should go."""
    heading = np.array([np.cos(direction), np.sin(direction)])
    data.site("task").xpos[:] = [*(data.body("torso").xpos[:2] + 2.0 * heading), 0.15]
