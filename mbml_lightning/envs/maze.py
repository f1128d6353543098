"""Mazes, in which a particle goes to a goal: UmazeGoal-M (Section 5, Appendix G) and MazeMedium."""

import functools
import itertools
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64

from mbml_lightning.envs.distribution import Actions, Outcomes, States, TaskDistribution, Tasks, official_splits
from mbml_lightning.envs.mujoco_base import MujocoSimulation
from mbml_lightning.envs.simulation import RewardTerms

# Geometry in the coordinates of qpos, which observations and goals share; MuJoCo's world is shifted by ORIGIN.
ORIGIN = 1.2
CELL_OFFSET = 1.0 - ORIGIN  # cell (i, j) is the unit square around (i, j) + CELL_OFFSET


class Layout(NamedTuple):
    """The walls of a maze as D4RL draws them, and its start.

    Attributes:
        rows: Row i is x, column j is y; "#" is a wall.
        start: Around which the particle starts, (x, y).
    """

    rows: tuple[str, ...]
    start: tuple[float, float]

    def cells(self, wall: bool) -> list[tuple[int, int]]:
        """List the cells that are walls, or those that are free."""
        everywhere = itertools.product(range(len(self.rows)), range(len(self.rows[0])))
        return [(i, j) for i, j in everywhere if (self.rows[i][j] == "#") is wall]


UMAZE = Layout(("#####", "#...#", "###.#", "#...#", "#####"), start=(2.0, 3.0))
MEDIUM = Layout(
    ("########", "#..##..#", "#..#...#", "##...###", "#..#...#", "#.#..#.#", "#...#..#", "########"), start=(6.0, 1.0)
)
MAX_SPEED = 5.0

# Physics of the particle as in D4RL's point mazes: contacts without friction (condim 1).
MODEL = """
<mujoco model="maze">
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
    <camera name="top" pos="{centre} {centre} {height}"/>
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


@functools.cache
def maze_model(layout: Layout = UMAZE) -> mujoco.MjModel:
    """Compile the maze, once in a process."""
    walls = "\n    ".join(
        f'<geom type="box" size=".5 .5 .2" pos="{i + 1} {j + 1} 0" rgba=".6 .5 .4 1"/>' for i, j in layout.cells(True)
    )
    size = len(layout.rows)
    xml = MODEL.format(walls=walls, origin=ORIGIN, centre=(size + 1) / 2, height=1.5 * size)
    return mujoco.MjModel.from_xml_string(xml)


def _boxes(cells: list[tuple[int, int]]) -> Float64[np.ndarray, "W 4"]:
    corner = np.array(cells) + (CELL_OFFSET - 0.5)
    return np.concatenate([corner, corner + 1.0], axis=1)


class MazeSimulation(MujocoSimulation):
    """The particle: states (x, y, vx, vy), actions (forces in x and y), outcomes (x', y').

    Args:
        layout: The maze.
        goals: One for each copy.
        num_threads: MuJoCo's threads.
    """

    def __init__(self, layout: Layout, goals: Float64[np.ndarray, "n 2"], num_threads: int) -> None:
        super().__init__(maze_model(layout), goals, num_threads)
        self._start = np.array(layout.start)
        self._speeds = self.qvel[:, 0], self.qvel[:, 1]  # NumPy is slow on rows of two

    def draw_start(self, rng: np.random.Generator) -> tuple[Float64[np.ndarray, " 2"], Float64[np.ndarray, " 2"]]:
        """Draw a start around the layout's, nearly at rest."""
        return self._start + rng.uniform(-0.1, 0.1, size=2), 0.1 * rng.standard_normal(2)

    def step(self, actions: Float64[np.ndarray, "n 2"]) -> None:
        """Cut the speed on each axis and step the physics, after which an observed speed may be slightly higher."""
        for speed in self._speeds:
            np.maximum(speed, -MAX_SPEED, out=speed)
            np.minimum(speed, MAX_SPEED, out=speed)
        super().step(actions)

    def observe(self) -> Float32[np.ndarray, "n 4"]:
        """Return positions and velocities."""
        return np.concatenate((self.qpos, self.qvel), axis=1, dtype=np.float32)

    def outcomes(self, next_observations: Float32[np.ndarray, "n 4"]) -> Float64[np.ndarray, "n 2"]:
        """Return the position after the step, as observed."""
        return next_observations[:, :2].astype(np.float64)

    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """Put the ball at the goal."""
        data.site("goal").xpos[:2] = self.tasks[copy] + ORIGIN


class Maze(TaskDistribution):
    """Distributions of goals in a maze, in which episodes never terminate."""

    layout: ClassVar[Layout]
    official: ClassVar[str]
    """The name in the authors' table."""
    observation_dim = 4
    action_dim = 2
    task_shape = (2,)
    task_meaning = "a goal (x, y) in a free cell of the maze"
    planar = True
    frames_per_second = 100

    @property
    def walls(self) -> Float64[np.ndarray, "W 4"]:
        """Boxes of the walls as (x0, y0, x1, y1), in the coordinates of observations and goals."""
        return _boxes(self.layout.cells(True))

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, "n 2"]]:
        """The official sets: ten training and ten test goals; what the authors stored as "ood" are no goals."""
        return official_splits(self.official, ("train", "test"))

    def contains(self, tasks: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Accept goals in free cells."""
        low, high = np.split(_boxes(self.layout.cells(False)), 2, axis=1)
        inside = np.all((tasks[:, None] >= low) & (tasks[:, None] <= high), axis=2)  # (n, cells)
        return np.any(inside, axis=1)

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute exp(-||xy' - g||_2), of the position after the step."""
        offset = np.subtract(outcomes, tasks, dtype=np.float64)
        return {"reward_goal": np.exp(-np.hypot(offset[..., 0], offset[..., 1]))}

    def observed_outcomes(self, observations: States, next_observations: States) -> Float64[np.ndarray, "... 2"]:
        """Return the position after the step."""
        return next_observations[..., :2].astype(np.float64)

    def simulation(self, tasks: Float64[np.ndarray, "n 2"], num_threads: int) -> MazeSimulation:
        """Make particles, each with its own goal."""
        return MazeSimulation(self.layout, tasks, num_threads)


@dataclass(frozen=True)
class UmazeGoalM(Maze):
    """Go to a goal in one of the two dead-end arms of the maze; the start is in the cell between them."""

    family = "UmazeGoalM"
    official = "UmazeGoal-M"
    layout = UMAZE
    horizon = 300

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """Draw half of the goals in each arm (the odd one in the first), as the official sets were drawn."""
        x = np.concatenate([rng.uniform(0.4, 1.2, size=n - n // 2), rng.uniform(2.4, 3.2, size=n // 2)])
        return np.stack([x, rng.uniform(1.0, 2.0, size=n)], axis=1)


@dataclass(frozen=True)
class MazeMedium(Maze):
    """Go to a goal in one of two rooms of a larger maze, which the released code has and the paper does not."""

    family = "MazeMedium"
    official = "MazeMedium"
    layout = MEDIUM
    horizon = 600

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """Draw half of the goals in each room (the odd one in the first), as the official sets were drawn."""
        y = np.concatenate([rng.uniform(0.4, 2.2, size=n - n // 2), rng.uniform(4.4, 6.2, size=n // 2)])
        return np.stack([rng.uniform(0.4, 2.2, size=n), y], axis=1)
