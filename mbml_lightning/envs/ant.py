"""The ant: AntDir and AntDirFwd, which run in a direction, and AntGoal, which goes to a place (Section 5, Table 9)."""

import functools
from dataclasses import dataclass

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64

from mbml_lightning.envs.directions import DirectionTasks, mark_direction, speed_towards
from mbml_lightning.envs.distribution import Actions, Outcomes, TaskDistribution, Tasks, official_splits
from mbml_lightning.envs.robot import RobotSimulation, StartNoise, compile_robot, control_cost
from mbml_lightning.envs.simulation import RewardTerms

FRAME_SKIP = 5
HEALTHY_HEIGHTS = (0.2, 1.0)
LARGEST_FORCE = 1.0  # contact forces are cut at +- this, in observations and costs
CONTACT_WEIGHT = 5e-4
GOAL_RADIUS = 3.0
GOAL_ARC = 2 * np.pi / 3
FARTHEST_GOAL = 10.0  # what an ant at 1 m/s covers in the horizon

ant_model = functools.cache(functools.partial(compile_robot, "ant.xml"))


class AntSimulation(RobotSimulation):
    """The ant: states (z and orientation, joints, velocities[, forces]), outcomes (vx, vy[, squared forces]).

    Args:
        tasks: One for each copy.
        num_threads: MuJoCo's threads.
        contact_forces: Observe contact forces and measure the sum of their squares.
    """

    start_noise = StartNoise(0.1, 0.1, normal=True)

    def __init__(self, tasks: Float64[np.ndarray, "..."], num_threads: int, contact_forces: bool) -> None:
        derived = ["xpos", "cfrc_ext"] if contact_forces else ["xpos"]
        super().__init__(ant_model(contact_forces), tasks, num_threads, FRAME_SKIP, derived)
        self._contact_forces = contact_forces

    def place(self) -> Float64[np.ndarray, "n 2"]:
        """Return the place of the torso, as MuJoCo leaves it after a step."""
        return self.derived["xpos"][:, 1, :2]

    def forces(self) -> Float64[np.ndarray, "n 84"]:
        """Return external forces and torques on all bodies, cut at +-1."""
        forces = self.derived["cfrc_ext"].reshape(len(self.tasks), -1)
        return forces.clip(-LARGEST_FORCE, LARGEST_FORCE)

    def positions(self) -> Float64[np.ndarray, "n p"]:
        """Return the positions that are observed: all but x and y."""
        return self.qpos[:, 2:]

    def observe(self) -> Float32[np.ndarray, "n S"]:
        """Return positions, velocities and, if they are observed, forces."""
        forces = [self.forces()] if self._contact_forces else []
        return np.concatenate([self.positions(), self.qvel, *forces], axis=1, dtype=np.float32)

    def outcomes(self, next_observations: Float32[np.ndarray, "n S"]) -> Float64[np.ndarray, "n O"]:
        """Return velocities of the torso, and the sum of squared forces if they count."""
        return self.with_forces(self._velocities)

    def with_forces(self, outcomes: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n O"]:
        """Add the sum of squared forces, if they count."""
        if not self._contact_forces:
            return outcomes
        return np.concatenate([outcomes, np.square(self.forces()).sum(axis=1, keepdims=True)], axis=1)


class AntDirSimulation(AntSimulation):
    """The ant of AntDir, whose episode ends where the torso is too low or too high."""

    def terminated(self, next_observations: Float32[np.ndarray, "n S"]) -> Bool[np.ndarray, " n"]:
        """End episodes whose torso is too low or too high, or whose state is not finite."""
        lowest, highest = HEALTHY_HEIGHTS
        height = self.qpos[:, 2]
        sound = np.isfinite(self.qpos).all(axis=1) & np.isfinite(self.qvel).all(axis=1)
        return ~(sound & (height >= lowest) & (height <= highest))

    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """Put the marker ahead of the ant."""
        mark_direction(data, float(self.tasks[copy]))


class AntDirFwdSimulation(AntDirSimulation):
    """The ant of AntDirFwd, whose episode nothing ends."""

    def terminated(self, next_observations: Float32[np.ndarray, "n S"]) -> Bool[np.ndarray, " n"]:
        """End no episode, whatever the state."""
        return np.zeros(len(self.tasks), dtype=np.bool_)


class AntGoalSimulation(AntSimulation):
    """The ant of AntGoal: states begin with x and y, outcomes with the torso's place."""

    def positions(self) -> Float64[np.ndarray, "n 15"]:
        """Return all positions, x and y included."""
        return self.qpos

    def outcomes(self, next_observations: Float32[np.ndarray, "n S"]) -> Float64[np.ndarray, "n O"]:
        """Return the place of the torso, and the sum of squared forces if they count."""
        return self.with_forces(self.place())

    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """Put the marker at the goal."""
        data.site("task").xpos[:] = [*self.tasks[copy], 0.15]


def contact_cost(outcomes: Outcomes) -> RewardTerms:
    """Compute -5e-4 sum of squared forces, where outcomes have it."""
    return {"reward_contact": -CONTACT_WEIGHT * outcomes[..., 2]} if outcomes.shape[-1] > 2 else {}


@dataclass(frozen=True)
class AntDir(DirectionTasks):
    """Run in the task's direction; a fall ends the episode.

    Args:
        contact_forces: Observe 84 contact forces and pay for them. The authors' MuJoCo 2.0 left them at zero, so the
            default leaves them out; with them an ant of today is another problem. They are those at the beginning of
            the last physics step, where Gymnasium computes them anew after it.
    """

    contact_forces: bool = False

    family = "AntDir"
    official = "AntDir"
    horizon = 200
    action_dim = 8
    frames_per_second = 20
    copies_per_thread = 2

    @property
    def observation_dim(self) -> int:
        """Dimensions of 13 positions, 14 velocities and maybe 84 forces."""
        return 27 + 84 * self.contact_forces

    @property
    def unobserved_outcomes(self) -> int:
        """Number of outcomes: two velocities, and maybe the squared forces."""
        return 2 + self.contact_forces

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute <v, (cos g, sin g)> - 0.5 ||a||^2 + 1, of outcomes (vx, vy[, squared forces])."""
        forward = speed_towards(tasks, outcomes[..., :2])
        return {
            "reward_forward": forward,
            "reward_ctrl": -control_cost(actions, 0.5),
            **contact_cost(outcomes),
            "reward_survive": np.ones_like(forward),
        }

    def simulation(self, tasks: Float64[np.ndarray, " n"], num_threads: int) -> AntSimulation:
        """Make ants, each with its own direction."""
        return AntDirSimulation(tasks, num_threads, self.contact_forces)


@dataclass(frozen=True)
class AntDirFwd(DirectionTasks):
    """Run in any direction, for speed alone and without an end, as in UNICORN, CORRO and FOCAL's later code."""

    family = "AntDirFwd"
    horizon = 200
    observation_dim = 27
    unobserved_outcomes = 2
    action_dim = 8
    frames_per_second = 20
    copies_per_thread = 2

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """20 training and 20 test directions, as many as those papers use, drawn by us: theirs are not published."""
        rng = np.random.RandomState(1337)
        return {split: rng.uniform(0.0, 2 * np.pi, size=20) for split in ("train", "test")}

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
        """Draw uniformly on the circle."""
        return rng.uniform(0.0, 2 * np.pi, size=n)

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute <v, (cos g, sin g)>, of outcomes (vx, vy)."""
        return {"reward_forward": speed_towards(tasks, outcomes)}

    def simulation(self, tasks: Float64[np.ndarray, " n"], num_threads: int) -> AntSimulation:
        """Make ants, each with its own direction."""
        return AntDirFwdSimulation(tasks, num_threads, contact_forces=False)


@dataclass(frozen=True)
class AntGoal(TaskDistribution):
    """Go to the task's place and stay there; it never terminates.

    Args:
        contact_forces: As for AntDir.
    """

    contact_forces: bool = False

    family = "AntGoal"
    horizon = 200
    action_dim = 8
    task_shape = (2,)
    task_meaning = f"a goal (x, y) in metres within {FARTHEST_GOAL} of the start"
    planar = True
    frames_per_second = 20
    copies_per_thread = 2

    @property
    def observation_dim(self) -> int:
        """Dimensions of 15 positions, 14 velocities and maybe 84 forces."""
        return 29 + 84 * self.contact_forces

    @property
    def unobserved_outcomes(self) -> int:
        """Number of outcomes: the place, which lags the state by a physics step, and maybe squared forces."""
        return 2 + self.contact_forces

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, "n 2"]]:
        """The official sets: ten training goals, eight test goals, eight beyond the arc."""
        return official_splits("AntGoal")

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n 2"]:
        """Draw uniformly on a third of a disc."""
        angles, radii = rng.uniform(0.0, GOAL_ARC, size=n), GOAL_RADIUS * np.sqrt(rng.uniform(size=n))
        return np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)

    def contains(self, tasks: Float64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Accept goals within reach."""
        return np.hypot(tasks[:, 0], tasks[:, 1]) <= FARTHEST_GOAL

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute -||xy' - g||_1 - 0.1 ||a||^2, of outcomes (x', y'[, squared forces])."""
        distance = np.abs(np.subtract(outcomes[..., :2], tasks, dtype=np.float64)).sum(axis=-1)
        return {
            "reward_goal": -distance,
            "reward_ctrl": -control_cost(actions, 0.1),
            **contact_cost(outcomes),
        }

    def simulation(self, tasks: Float64[np.ndarray, "n 2"], num_threads: int) -> AntSimulation:
        """Make ants, each with its own goal."""
        return AntGoalSimulation(tasks, num_threads, self.contact_forces)
