"""The humanoid: HumanoidDir-M and the original HumanoidDir, which walk in a direction (Appendix G)."""

import functools
from dataclasses import dataclass
from typing import ClassVar, Literal

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64

from mbml_lightning.envs.directions import DirectionTasks, mark_direction, speed_towards
from mbml_lightning.envs.distribution import Actions, Outcomes, Tasks
from mbml_lightning.envs.robot import RobotSimulation, StartNoise, compile_robot, control_cost
from mbml_lightning.envs.simulation import RewardTerms

FRAME_SKIP = 5
HEALTHY_HEIGHTS = (1.0, 2.0)
REACH = 0.4  # of the actuators: actions of 1 are controls of 0.4
IMPACT_WEIGHT, LARGEST_IMPACT = 5e-7, 10.0
INERTIAS = ("cinert", "cvel", "qfrc_actuator")  # 14 x 10, 14 x 6, 23

humanoid_model = functools.cache(functools.partial(compile_robot, "humanoid.xml"))


class HumanoidSimulation(RobotSimulation):
    """The humanoid: states as listed below, outcomes (vx, vy[, impact]) of its centre of mass.

    States are (z and pose, velocities, inertias and velocities of bodies, actuator forces[, contact forces]).

    Args:
        tasks: Directions.
        num_threads: MuJoCo's threads.
        contact_forces: Observe contact forces and measure the impact.
    """

    start_noise = StartNoise(0.01, 0.01, normal=False)

    def __init__(self, tasks: Float64[np.ndarray, " n"], num_threads: int, contact_forces: bool) -> None:
        model = humanoid_model(contact_forces)
        self._observed = (*INERTIAS, "cfrc_ext") if contact_forces else INERTIAS
        self._shares = model.body_mass / model.body_mass.sum()
        super().__init__(model, tasks, num_threads, FRAME_SKIP, ("xipos", *self._observed))
        self._contact_forces = contact_forces

    def place(self) -> Float64[np.ndarray, "n 2"]:
        """Return the place of the centre of mass, as MuJoCo leaves it after a step."""
        return np.einsum("b,nbd->nd", self._shares, self.derived["xipos"][:, :, :2])

    def observe(self) -> Float32[np.ndarray, "n S"]:
        """Return positions but x and y, velocities, and the derived fields."""
        derived = [self.derived[name].reshape(len(self.tasks), -1) for name in self._observed]
        return np.concatenate([self.qpos[:, 2:], self.qvel, *derived], axis=1, dtype=np.float32)

    def outcomes(self, next_observations: Float32[np.ndarray, "n S"]) -> Float64[np.ndarray, "n O"]:
        """Return velocities of the centre of mass, and the impact if forces count."""
        if not self._contact_forces:
            return self._velocities
        squares = np.square(self.derived["cfrc_ext"]).sum(axis=(1, 2))
        impact = np.minimum(IMPACT_WEIGHT * squares, LARGEST_IMPACT)
        return np.concatenate([self._velocities, impact[:, None]], axis=1)

    def terminated(self, next_observations: Float32[np.ndarray, "n S"]) -> Bool[np.ndarray, " n"]:
        """End episodes whose root is too low or too high."""
        lowest, highest = HEALTHY_HEIGHTS
        height = self.qpos[:, 2]
        return ~((height >= lowest) & (height <= highest))  # not the opposite comparisons: NaN ends an episode

    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """Put the marker ahead of the humanoid."""
        mark_direction(data, float(self.tasks[copy]))


@dataclass(frozen=True)
class HumanoidDirM(DirectionTasks):
    """Walk in the task's direction; a fall ends the episode.

    Args:
        velocity_per: By what the way of the centre of mass is divided: "timestep", that of the physics, as the
            released code does (five times the velocity, and what Table 9 was reached with), or "dt", that of a
            control step (the velocity in metres a second).
        contact_forces: Observe 84 contact forces and pay for them; see AntDir.
    """

    velocity_per: Literal["timestep", "dt"] = "timestep"
    contact_forces: bool = False

    family = "HumanoidDirM"
    official = "HumanoidDir-M"
    velocity_weight: ClassVar[float] = 1.25
    horizon = 200
    action_dim = 17
    frames_per_second = 67
    copies_per_thread = 2

    @property
    def observation_dim(self) -> int:
        """Dimensions of 22 positions, 23 velocities, 247 derived numbers and maybe 84 forces."""
        return 292 + 84 * self.contact_forces

    @property
    def unobserved_outcomes(self) -> int:
        """Number of outcomes: two velocities, and maybe the impact."""
        return 2 + self.contact_forces

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute w <v, (cos g, sin g)> - 0.1 ||0.4 a||^2 + 5, of outcomes (vx, vy[, impact])."""
        weight = self.velocity_weight * (FRAME_SKIP if self.velocity_per == "timestep" else 1)
        forward = weight * speed_towards(tasks, outcomes[..., :2])
        impact = {"reward_contact": -outcomes[..., 2]} if outcomes.shape[-1] > 2 else {}
        return {
            "reward_forward": forward,
            "reward_ctrl": -control_cost(actions, 0.1 * REACH**2),
            **impact,
            "reward_survive": np.full_like(forward, 5.0),
        }

    def simulation(self, tasks: Float64[np.ndarray, " n"], num_threads: int) -> HumanoidSimulation:
        """Make humanoids, each with its own direction."""
        return HumanoidSimulation(tasks, num_threads, self.contact_forces)


@dataclass(frozen=True)
class HumanoidDir(HumanoidDirM):
    """Walk as in HumanoidDirM, but for so small a reward that standing still serves all tasks (Appendix G)."""

    family = "HumanoidDir"
    official = "HumanoidDir"
    velocity_weight: ClassVar[float] = 0.25
