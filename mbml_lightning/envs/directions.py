"""Tasks that are directions in the plane: AntDir and HumanoidDir-M go there as fast as they can."""

from typing import ClassVar

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float64

from mbml_lightning.envs.distribution import TaskDistribution, official_splits

ARC = 2 * np.pi / 3  # 120 degrees, on which the paper's training and test directions lie


class DirectionTasks(TaskDistribution):
    """Angles in radians on the official arc."""

    task_shape = ()
    task_meaning = "a direction in [0, 2 pi) radians"
    official: ClassVar[str]
    """The name in the authors' table."""

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """Ten training, eight test directions, eight beyond the arc."""
        return official_splits(self.official)

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
        """Uniform on the arc, from which the official training directions were picked by hand."""
        return rng.uniform(0.0, ARC, size=n)

    def contains(self, tasks: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """One full turn, which degrees exceed."""
        inside: Bool[np.ndarray, " n"] = (tasks >= 0) & (tasks < 2 * np.pi)
        return inside


def speed_towards(
    directions: Float[np.ndarray, "..."], velocities: Float[np.ndarray, "... 2"]
) -> Float64[np.ndarray, "..."]:
    """<v, (cos g, sin g)>."""
    x, y = velocities[..., 0], velocities[..., 1]
    speed: Float64[np.ndarray, "*n"] = x * np.cos(directions) + y * np.sin(directions)
    return speed


def mark_direction(data: mujoco.MjData, direction: float) -> None:
    """Show the marker two metres from the robot, where it should go."""
    heading = np.array([np.cos(direction), np.sin(direction)])
    data.site("task").xpos[:] = [*(data.body("torso").xpos[:2] + 2.0 * heading), 0.15]
