"""HalfCheetahVel: the cheetah runs at the task's speed (Section 5, Table 9)."""

import functools
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64

from mbml_lightning.envs.distribution import Actions, Outcomes, TaskDistribution, Tasks, official_splits
from mbml_lightning.envs.robot import RobotSimulation, StartNoise, compile_robot, control_cost
from mbml_lightning.envs.simulation import RewardTerms

FASTEST = 10.0

cheetah_model = functools.cache(functools.partial(compile_robot, "half_cheetah.xml"))


class HalfCheetahSimulation(RobotSimulation):
    """The cheetah: states (z, pitch, joints, velocities[, torso x y z]), outcomes (forward velocity,).

    Args:
        tasks: Target speeds.
        num_threads: MuJoCo's threads.
        torso_position: Observe the torso's place, too.
    """

    start_noise = StartNoise(0.1, 0.1, normal=True)

    def __init__(self, tasks: Float64[np.ndarray, " n"], num_threads: int, torso_position: bool) -> None:
        super().__init__(cheetah_model(), tasks, num_threads, 5, ["xpos"] if torso_position else [])
        self._torso_position = torso_position

    def observe(self) -> Float32[np.ndarray, "n S"]:
        """Return positions but x, velocities and, if it is observed, the torso's place."""
        torso = [self.derived["xpos"][:, 1]] if self._torso_position else []
        return np.concatenate([self.qpos[:, 1:], self.qvel, *torso], axis=1, dtype=np.float32)


@dataclass(frozen=True)
class HalfCheetahVel(TaskDistribution):
    """Run at the task's speed; it never terminates.

    Args:
        torso_position: Observe the torso's x, y and z, as the released code does (20 dimensions); the paper speaks of
            Gymnasium's state, which has 17.
    """

    torso_position: bool = True

    family = "HalfCheetahVel"
    horizon = 1000
    unobserved_outcomes = 1
    action_dim = 6
    task_shape = ()
    task_meaning = f"a forward speed in metres a second, at most {FASTEST} in size"
    frames_per_second = 20
    copies_per_thread = 4

    @property
    def observation_dim(self) -> int:
        """Dimensions of 8 positions, 9 velocities and maybe 3 coordinates of the torso."""
        return 17 + 3 * self.torso_position

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, " n"]]:
        """The official sets: ten training speeds, eight test speeds, eight faster ones."""
        return official_splits("HalfCheetahVel")

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, " n"]:
        """Draw uniformly on the range of the official test speeds."""
        return rng.uniform(0.5, 1.5, size=n)

    def contains(self, tasks: Float64[np.ndarray, " n"]) -> Bool[np.ndarray, " n"]:
        """Accept speeds that a cheetah can run at."""
        return np.abs(tasks) <= FASTEST

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute -|v - g| - 0.05 ||a||^2, of the outcome (v,)."""
        return {"reward_forward": -np.abs(outcomes[..., 0] - tasks), "reward_ctrl": -control_cost(actions, 0.05)}

    def simulation(self, tasks: Float64[np.ndarray, " n"], num_threads: int) -> HalfCheetahSimulation:
        """Make cheetahs, each with its own speed."""
        return HalfCheetahSimulation(tasks, num_threads, self.torso_position)
