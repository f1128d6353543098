"""Parts that the robots share: Gymnasium's models, noise around the start pose, rewards of velocities."""

import re
from collections.abc import Sequence
from importlib import resources
from typing import ClassVar, NamedTuple

import mujoco
import numpy as np
from jaxtyping import Float, Float32, Float64

from mbml_lightning.envs.mujoco_base import MujocoSimulation

TOTAL_MASS = re.compile(r' settotalmass="([\d.]+)"')


class StartNoise(NamedTuple):
    """The spread of starts around the model's start pose.

    Attributes:
        position: Positions are uniform within +- this.
        velocity: Velocities are uniform within +- this, or of this deviation.
        normal: True where velocities are normal.
    """

    position: float
    velocity: float
    normal: bool


def robot_spec(asset: str) -> tuple[mujoco.MjSpec, float | None]:
    """Read Gymnasium's model of a robot and the total mass it prescribes, if any.

    MuJoCo deprecates that attribute in favour of a call on the compiled model, see :func:`compile_robot`.
    """
    text = resources.files("gymnasium").joinpath(f"envs/mujoco/assets/{asset}").read_text(encoding="utf-8")
    mass = TOTAL_MASS.search(text)
    return mujoco.MjSpec.from_string(TOTAL_MASS.sub("", text)), float(mass[1]) if mass else None


def compile_robot(asset: str, contact_forces: bool = False) -> mujoco.MjModel:
    """Compile the model with a marker for the task and a camera that shows both, which physics does not feel.

    Args:
        asset: File name among Gymnasium's.
        contact_forces: Make MuJoCo compute ``cfrc_ext``, which it does only for a sensor of accelerations.
    """
    spec, total_mass = robot_spec(asset)
    spec.worldbody.add_site(name="task", size=[0.15] * 3, rgba=[0.2, 0.7, 0.2, 1], pos=[0, 0, -10])
    if spec.joints[0].type == mujoco.mjtJoint.mjJNT_FREE:  # tasks lie in the plane: look down on it
        camera = spec.cameras[0]
        camera.pos, camera.alt.xyaxes = [0, -3, 3], [1, 0, 0, 0, 1, 1]
    if contact_forces:
        kind, body = mujoco.mjtSensor.mjSENS_FRAMELINACC, mujoco.mjtObj.mjOBJ_BODY
        spec.add_sensor(name="acceleration", type=kind, objtype=body, objname="torso")
    model = spec.compile()
    if total_mass is not None:
        mujoco.mj_setTotalmass(model, total_mass)
        follow_masses(model)
    return model


def follow_masses(model: mujoco.MjModel) -> None:
    """Recompute the constants that MuJoCo derives from masses, and its solver's scale, which its own call leaves."""
    mujoco.mj_setConst(model, mujoco.MjData(model))
    model.stat.meaninertia = model.dof_M0.mean()


class RobotSimulation(MujocoSimulation):
    """A robot whose outcomes are the velocities of one point of it, ``(n, 1)`` or ``(n, 2)``.

    Args:
        model: The robot.
        tasks: One for each copy.
        num_threads: MuJoCo's threads.
        frame_skip: Physics steps in one control step.
        derived: Names of MuJoCo's derived fields that observations or rewards need.
    """

    start_noise: ClassVar[StartNoise]

    def __init__(
        self,
        model: mujoco.MjModel,
        tasks: Float64[np.ndarray, "..."],
        num_threads: int,
        frame_skip: int,
        derived: Sequence[str] = (),
    ) -> None:
        super().__init__(model, tasks, num_threads, frame_skip, derived)
        self._start = model.qpos0.copy()
        self._seconds = frame_skip * model.opt.timestep

    def place(self) -> Float64[np.ndarray, "n d"]:
        """Return positions on the axes of rewarded velocities: x of the root, unless a subclass says otherwise."""
        return self.qpos[:, :1]

    def draw_start(self, rng: np.random.Generator) -> tuple[Float64[np.ndarray, " nq"], Float64[np.ndarray, " nv"]]:
        """Draw a start around the start pose, nearly at rest."""
        noise, size = self.start_noise, self.qvel.shape[1:]
        positions = self._start + rng.uniform(-noise.position, noise.position, self._start.shape)
        if noise.normal:
            return positions, noise.velocity * rng.standard_normal(size)
        return positions, rng.uniform(-noise.velocity, noise.velocity, size)

    def step(self, actions: Float64[np.ndarray, "n A"]) -> None:
        """Step the physics and measure velocities, the way over the time."""
        before = self.place().copy()
        super().step(actions)
        self._velocities: Float64[np.ndarray, "n d"] = (self.place() - before) / self._seconds

    def outcomes(self, next_observations: Float32[np.ndarray, "n S"]) -> Float64[np.ndarray, "n O"]:
        """Return the velocities of the step."""
        return self._velocities

    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """Move no marker, since a speed or a mass is at no place."""


def control_cost(actions: Float[np.ndarray, "... A"], weight: float) -> Float64[np.ndarray, "..."]:
    """Compute the cost of actions, weight ||a||_2^2."""
    return weight * np.square(actions, dtype=np.float64).sum(axis=-1)
