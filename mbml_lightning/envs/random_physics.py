"""Tasks that are physics: WalkerParam and HopperParam, whose masses, inertias, damping and friction differ."""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

import mujoco
import numpy as np
from jaxtyping import Bool, Float32, Float64

from mbml_lightning.envs.distribution import Actions, Outcomes, TaskDistribution, Tasks, official_tasks
from mbml_lightning.envs.robot import RobotSimulation, StartNoise, compile_robot, control_cost, follow_masses
from mbml_lightning.envs.simulation import RewardTerms
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.splits import SPLITS

EXPONENT_BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
"""A parameter is its base value times this to the power of the task's exponent; the order is that of a task."""
FARTHEST_EXPONENT = 5.0
FARTHEST_FRICTION = 10.0
FASTEST_OBSERVED = 10.0
Base = Literal["mujoco131", "compiled"]


def cylinder_inertia(radius: float, length: float, density: float = 1000.0) -> tuple[float, Float64[np.ndarray, " 3"]]:
    """Compute mass and principal inertia as MuJoCo 1.31 did for a capsule: those of a cylinder of length L + r."""
    height = length + radius
    mass = np.pi * radius**2 * height * density
    across = mass * (3 * radius**2 + height**2) / 12
    return mass, np.array([across, across, mass * radius**2 / 2])


def base_model(asset: str, timestep: float, base: Base) -> mujoco.MjModel:
    """Compile the robot whose parameters tasks multiply; MuJoCo's derived constants stay its own under every task.

    Args:
        asset: File name among Gymnasium's.
        timestep: Seconds of a physics step.
        base: "mujoco131" sets masses and inertias as the authors' MuJoCo computed them, "compiled" takes today's.
    """
    model = compile_robot(asset)
    model.opt.timestep = timestep
    if base == "mujoco131":
        for body in range(1, model.nbody):
            radius, half_length, _ = model.geom_size[model.body_geomadr[body]]
            model.body_mass[body], model.body_inertia[body] = cylinder_inertia(radius, 2 * half_length)
        follow_masses(model)
    return model


def parameters(
    model: mujoco.MjModel, exponents: Float64[np.ndarray, "n D"]
) -> Iterator[tuple[str, Float64[np.ndarray, "n ..."]]]:
    """Yield the model's fields under each task: base * b^e, element by element."""
    start = 0
    for field, b in EXPONENT_BASES.items():
        values = getattr(model, field)
        e = exponents[:, start : start + values.size].reshape(-1, *values.shape)
        start += values.size
        yield field, values * b**e


class RandomPhysicsSimulation(RobotSimulation):
    """A walker or hopper: states (positions but x, cut velocities), outcomes (forward velocity,).

    Args:
        model: The base model.
        exponents: One task for each copy.
        num_threads: MuJoCo's threads.
        frame_skip: Physics steps in one control step.
    """

    start_noise = StartNoise(0.005, 0.005, normal=False)

    def __init__(
        self, model: mujoco.MjModel, exponents: Float64[np.ndarray, "n D"], num_threads: int, frame_skip: int
    ) -> None:
        super().__init__(model, exponents, num_threads, frame_skip)
        for field, values in parameters(model, exponents):
            self.batch.expand(field)[...] = values

    def observe(self) -> Float32[np.ndarray, "n S"]:
        """Return positions but x, and velocities cut at +-10."""
        velocities = np.clip(self.qvel, -FASTEST_OBSERVED, FASTEST_OBSERVED)
        return np.concatenate([self.qpos[:, 1:], velocities], axis=1, dtype=np.float32)


class WalkerSimulation(RandomPhysicsSimulation):
    """The walker, whose fall ends the episode."""

    def terminated(self, next_observations: Float32[np.ndarray, "n 17"]) -> Bool[np.ndarray, " n"]:
        """End episodes whose torso is too low, too high or leans too far."""
        height, pitch = self.qpos[:, 1], self.qpos[:, 2]
        return ~((height > 0.8) & (height < 2.0) & (np.abs(pitch) < 1.0))


class HopperSimulation(RandomPhysicsSimulation):
    """The hopper, whose fall ends the episode."""

    def terminated(self, next_observations: Float32[np.ndarray, "n 11"]) -> Bool[np.ndarray, " n"]:
        """End episodes whose torso is too low or leans too far, or whose state has a number beyond 100."""
        height, pitch = self.qpos[:, 1], self.qpos[:, 2]
        rest = np.concatenate([self.qpos[:, 2:], self.qvel], axis=1)
        sound = np.all(np.abs(rest) < 100, axis=1)
        return ~(sound & (height > 0.7) & (np.abs(pitch) < 0.2))


class RandomPhysics(TaskDistribution):
    """Walk forward under the task's physics; the reward is the same for all tasks. A fall ends the episode.

    A task is the exponents of all parameters in the order in which the authors drew them: masses of the bodies, the
    world first; inertias; damping of the joints, the root's first; friction of the geoms, the floor first.
    """

    asset: ClassVar[str]
    timestep: ClassVar[float]
    task_meaning = f"exponents of the physical parameters, at most {FARTHEST_EXPONENT} in size"
    horizon = 200
    frame_skip: int
    limit: float
    base: Base

    def __post_init__(self) -> None:
        """Reject options that are no physics."""
        if self.frame_skip < 1 or not 0 < self.limit <= FARTHEST_EXPONENT:
            raise ConfigurationError(f"{self.family}: expected frame_skip >= 1 and 0 < limit <= {FARTHEST_EXPONENT}")

    @property
    def model(self) -> mujoco.MjModel:
        """Base model, whose parameters tasks multiply."""
        return base_model(self.asset, self.timestep, self.base)

    @property
    def frames_per_second(self) -> int:
        """Number of control steps in a simulated second, from the physics' timestep and the frame skip."""
        return round(1 / (self.timestep * self.frame_skip))

    @abstractmethod
    def simulation(self, tasks: Float64[np.ndarray, "n D"], num_threads: int) -> RandomPhysicsSimulation:
        """Make robots, each with its own physics."""

    def sample_tasks(self, n: int, rng: np.random.Generator) -> Float64[np.ndarray, "n D"]:
        """Draw every exponent uniformly within the limit."""
        return rng.uniform(-self.limit, self.limit, size=(n, *self.task_shape))

    def contains(self, tasks: Float64[np.ndarray, "n D"]) -> Bool[np.ndarray, " n"]:
        """Accept exponents that leave a robot which can be simulated."""
        return np.all(np.abs(tasks) <= FARTHEST_EXPONENT, axis=1)

    def reward_terms(self, tasks: Tasks, actions: Actions, outcomes: Outcomes) -> RewardTerms:
        """Compute v - 1e-3 ||a||^2 + 1, of the outcome (v,), whatever the task."""
        forward = np.broadcast_to(outcomes[..., 0], np.broadcast_shapes(outcomes.shape[:-1], tasks.shape[:-1])).copy()
        return {
            "reward_forward": forward,
            "reward_ctrl": -control_cost(actions, 1e-3),
            "reward_survive": np.ones_like(forward),
        }


@dataclass(frozen=True)
class WalkerParam(RandomPhysics):
    """A walker with 65 physical parameters, 30 of whose tasks are for training (Section 5, Table 9).

    Args:
        frame_skip: Physics steps of 0.004 s in a control step: 4 in the released code, whatever its caller asks for.
        limit: New tasks have exponents uniform within +- this; the official sets have 2 (the released sampler says 3).
        base: Masses and inertias that exponents multiply: those of the authors' MuJoCo 1.31, or today's.
        left_foot_friction: Of the base model; the other foot has 0.9.
    """

    frame_skip: int = 4
    limit: float = 2.0
    base: Base = "mujoco131"
    left_foot_friction: float = 1.9

    family = "WalkerParam"
    asset = "walker2d.xml"
    timestep = 0.004
    observation_dim = 17
    action_dim = 6
    task_shape = (65,)
    copies_per_thread = 4

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, "n 65"]]:
        """The official sets: 30 training tasks, 8 test tasks, and 8 whose exponents lie between 2 and 3."""
        official = official_tasks("WalkerParam")
        return {split: _flat(official[f"{split}_exponents"]) for split in SPLITS}

    def __post_init__(self) -> None:
        """Reject a friction that is none."""
        super().__post_init__()
        if not 0 < self.left_foot_friction <= FARTHEST_FRICTION:
            raise ConfigurationError(f"{self.family}: expected 0 < left_foot_friction <= {FARTHEST_FRICTION}")

    @property
    def model(self) -> mujoco.MjModel:
        """Base model with the friction of the option."""
        model = super().model
        model.geom_friction[-1, 0] = self.left_foot_friction
        return model

    def simulation(self, tasks: Float64[np.ndarray, "n 65"], num_threads: int) -> WalkerSimulation:
        """Make walkers, each with its own physics."""
        return WalkerSimulation(self.model, tasks, num_threads, self.frame_skip)


@dataclass(frozen=True)
class HopperParam(RandomPhysics):
    """WalkerParam's construction on the hopper, as in CORRO and UNICORN.

    Args:
        frame_skip: Physics steps of 0.002 s in a control step.
        limit: New tasks have exponents uniform within +- this.
        base: As for WalkerParam.
    """

    frame_skip: int = 4
    limit: float = 2.0
    base: Base = "mujoco131"

    family = "HopperParam"
    asset = "hopper.xml"
    timestep = 0.002
    observation_dim = 11
    action_dim = 3
    task_shape = (41,)
    copies_per_thread = 2

    @property
    def splits(self) -> dict[str, Float64[np.ndarray, "n 41"]]:
        """Task sets of 30 and 8, drawn like WalkerParam's official ones, since those papers publish none."""
        seeds = {"train": (1337, 30), "test": (2337, 8)}
        return {split: np.random.RandomState(seed).uniform(-2, 2, (n, 41)) for split, (seed, n) in seeds.items()}

    def simulation(self, tasks: Float64[np.ndarray, "n 41"], num_threads: int) -> HopperSimulation:
        """Make hoppers, each with its own physics."""
        return HopperSimulation(self.model, tasks, num_threads, self.frame_skip)


def _flat(tasks: list[dict[str, list[list[float]]]]) -> Float64[np.ndarray, "n D"]:
    return np.array([np.concatenate([np.ravel(task[field]) for field in EXPONENT_BASES]) for task in tasks])
