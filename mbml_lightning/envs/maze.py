"""UmazeGoal-M: a particle is driven to a goal in one of the two arms of a U-shaped maze (Section 5, Appendix G)."""

import functools
import itertools

import mujoco
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64

from mbml_lightning.envs.distribution import TaskDistribution, official_tasks
from mbml_lightning.envs.mujoco_base import MujocoSimulation
from mbml_lightning.envs.simulation import RewardTerms

# Geometry in the coordinates of qpos, which observations and goals share; MuJoCo's world is shifted by ORIGIN.
GRID = 5
FREE_CELLS = ((1, 1), (1, 2), (1, 3), (2, 3), (3, 1), (3, 2), (3, 3))
ORIGIN = 1.2
CELL_OFFSET = 1.0 - ORIGIN  # cell (i, j) is the unit square around (i, j) + CELL_OFFSET
START = (2.0, 3.0)
MAX_SPEED = 5.0

# Physics of the particle as in D4RL's point mazes: contacts without friction (condim 1).
MODEL = """
<mujoco model="umaze">
  <option timestep="0.01" gravity="0 0 0" integrator="Euler" iterations="20"/>
  <visual>
    <global offwidth="480" offheight="480"/>
    <headlight ambient=".5 .5 .5" diffuse=".5 .5 .5" specular="0 0 0"/>
  </visual>
  <default>
    <joint type="slide" damping="1"/>
    <geom condim="1" margin="0.002" density="1000"/>
    <motor gear="100" ctrlrange="-1 1" ctrllimited="true"/>
  </default>
  <worldbody>
    <camera name="top" pos="3 3 7.5"/>
    <geom type="plane" size="10 10 .1" pos="0 0 -.2" rgba=".9 .9 .9 1" contype="0" conaffinity="0"/>
    {walls}
    <site name="goal" size=".1" rgba=".2 .7 .2 1"/>
    <body name="particle" pos="{origin} {origin} 0">
      <joint name="x" axis="1 0 0"/>
      <joint name="y" axis="0 1 0"/>
      <geom name="particle" type="sphere" size=".1" rgba=".2 .3 .8 1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="x"/>
    <motor joint="y"/>
  </actuator>
</mujoco>
"""


def goal_reward(goals: Float[np.ndarray, "..."], next_observations: Float[np.ndarray, "... S"]) -> RewardTerms:
    """r = exp(-||xy' - g||_2), of the position after the step."""
    offset = np.subtract(next_observations[..., :2], goals, dtype=np.float64)
    return {"reward_goal": np.exp(-np.hypot(offset[..., 0], offset[..., 1]))}


@functools.cache
def maze_model() -> mujoco.MjModel:
    """The maze, compiled once in a process."""
    walls = "\n    ".join(
        f'<geom type="box" size=".5 .5 .2" pos="{i + 1} {j + 1} 0" rgba=".6 .5 .4 1"/>' for i, j in _wall_cells()
    )
    return mujoco.MjModel.from_xml_string(MODEL.format(walls=walls, origin=ORIGIN))


def _wall_cells() -> list[tuple[int, int]]:
    return [(i, j) for i, j in itertools.product(range(GRID), repeat=2) if (i, j) not in FREE_CELLS]


def _boxes(cells: list[tuple[int, int]]) -> Float64[np.ndarray, "W 4"]:
    corner = np.array(cells) + (CELL_OFFSET - 0.5)
    return np.concatenate([corner, corner + 1.0], axis=1)


class MazeSimulation(MujocoSimulation):
    """The particle: states (x, y, vx, vy), actions (forces in x and y)."""

    def __init__(self, goals: Float64[np.ndarray, "n 2"], num_threads: int) -> None:
        super().__init__(maze_model(), goals, num_threads)
        self._speeds = self.qvel[:, 0], self.qvel[:, 1]  # NumPy is slow on rows of two

    def draw_start(self, rng: np.random.Generator) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
        """In the cell that joins the two arms, nearly at rest."""
        return START + rng.uniform(-0.1, 0.1, size=2), 0.1 * rng.standard_normal(2)

    def step(self, actions: Float64[np.ndarray, "n 2"]) -> None:
        """The speed on each axis is cut before the physics step, so an observed one may be slightly higher."""
        for speed in self._speeds:
            np.maximum(speed, -MAX_SPEED, out=speed)
            np.minimum(speed, MAX_SPEED, out=speed)
        super().step(actions)

    def observe(self) -> Float32[np.ndarray, "n 4"]:
        """Positions and velocities."""
        return np.concatenate((self.qpos, self.qvel), axis=1, dtype=np.float32)

    def reward_terms(
        self,
        observations: Float32[np.ndarray, "n 4"],
        actions: Float64[np.ndarray, "n 2"],
        next_observations: Float32[np.ndarray, "n 4"],
    ) -> RewardTerms:
        """Of what is observed, so that an oracle computes the same numbers from stored transitions."""
        return goal_reward(self.tasks, next_observations)

    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """The goal is a ball."""
        data.site("goal").xpos[:2] = self.tasks[copy] + ORIGIN


class UmazeGoalM(TaskDistribution):
    """Goals in the two dead-end arms of the maze; the start is in the cell between them. It never terminates."""

    name = "UmazeGoalM"
    horizon = 300
    observation_dim = 4
    action_dim = 2
    task_shape = (2,)
    task_meaning = "a goal (x, y) in a free cell of the maze"
    frames_per_second = 100

    @property
    def walls(self) -> Float64[np.ndarray, "W 4"]:
        """The wall boxes as (x0, y0, x1, y1), in the coordinates of observations and goals."""
        return _boxes(_wall_cells())

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, "n 2"]]:
        """Ten training and ten test goals; what the authors stored as "ood" here are no goals."""
        official = official_tasks("UmazeGoal-M")
        return {split: np.array(official[split], dtype=np.float64) for split in ("train", "test")}

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """Half of the goals in each arm (the odd one in the first), as the official sets were drawn."""
        x = np.concatenate([rng.uniform(0.4, 1.2, size=n - n // 2), rng.uniform(2.4, 3.2, size=n // 2)])
        return np.stack([x, rng.uniform(1.0, 2.0, size=n)], axis=1)

    def contains(self, tasks: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Goals in free cells."""
        low, high = np.split(_boxes(list(FREE_CELLS)), 2, axis=1)
        inside = np.all((tasks[:, None] >= low) & (tasks[:, None] <= high), axis=2)
        in_some_cell: Bool[np.ndarray, " n"] = np.any(inside, axis=1)
        return in_some_cell

    def reward_terms(
        self,
        tasks: Float[np.ndarray, "..."],
        observations: Float[np.ndarray, "... 4"],
        actions: Float[np.ndarray, "... 2"],
        next_observations: Float[np.ndarray, "... 4"],
    ) -> RewardTerms:
        """exp(-distance to the goal after the step)."""
        return goal_reward(tasks, next_observations)

    def simulation(self, tasks: Float64[np.ndarray, "n 2"], num_threads: int) -> MazeSimulation:
        """Particles, each with its own goal."""
        return MazeSimulation(tasks, num_threads)
