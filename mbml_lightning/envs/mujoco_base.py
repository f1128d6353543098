"""Simulations on MuJoCo, which steps all environment copies in one call, on its own threads."""

from abc import abstractmethod
from collections.abc import Sequence

import mujoco
import numpy as np
from jaxtyping import Bool, Float64, UInt8
from mujoco.batch import Batch

from mbml_lightning.envs.simulation import Simulation


class MujocoSimulation(Simulation):
    """The physics of ``n`` environment copies on one MuJoCo model.

    ``qpos`` and ``qvel`` are live views of the copies' states: what is written there is the state. A family whose
    tasks change the physics writes its model fields through ``self.batch.expand(field)``, one row for each copy.
    ``derived`` holds fields that MuJoCo computes from the state, such as places of bodies. After a step they are those
    of its last physics step, so they lag the state a little, as in Gymnasium's environments.

    Args:
        model: The system that all copies share.
        tasks: One for each copy.
        num_threads: Threads of MuJoCo; the trajectories do not depend on it.
        frame_skip: Physics steps in one control step.
        derived: Names of the derived fields that are kept.
    """

    def __init__(
        self,
        model: mujoco.MjModel,
        tasks: Float64[np.ndarray, "..."],
        num_threads: int,
        frame_skip: int = 1,
        derived: Sequence[str] = (),
    ) -> None:
        super().__init__(tasks)
        self.batch = Batch(model, nsim=len(tasks), nthread=num_threads)
        self.qpos: Float64[np.ndarray, "n nq"] = self.batch.bind("qpos")
        self.qvel: Float64[np.ndarray, "n nv"] = self.batch.bind("qvel")
        self._initial = self.batch.state[0].copy()
        self._controls = self.batch.bind("ctrl")
        self._computed = {name: self.batch.bind(name) for name in derived}
        self.derived: dict[str, Float64[np.ndarray, "n ..."]] = {}
        self._keep_derived()
        low, self._control_reach = model.actuator_ctrlrange.T.copy()
        if np.any(low != -self._control_reach):
            raise ValueError("the actuators' ranges must be symmetric: an action of 0 is no force")
        self._frame_skip = frame_skip
        self._renderer: mujoco.Renderer | None = None

    @abstractmethod
    def draw_start(self, rng: np.random.Generator) -> tuple[Float64[np.ndarray, " nq"], Float64[np.ndarray, " nv"]]:
        """Draw a start state: positions and velocities."""

    @abstractmethod
    def mark_task(self, data: mujoco.MjData, copy: int) -> None:
        """Move the markers of a picture to where the task of a copy puts them."""

    def reset(self, mask: Bool[np.ndarray, " n"], generators: Sequence[np.random.Generator]) -> None:
        """Clear the last episode, draw a start, and update the derived fields."""
        copies = np.flatnonzero(mask).tolist()
        self.batch.state[copies] = self._initial  # what batch.reset does, for less
        for copy in copies:
            self.qpos[copy], self.qvel[copy] = self.draw_start(generators[copy])
        self.batch.forward(copies)
        for name, values in self._computed.items():  # those of the other copies stay as they are
            self.derived[name][copies] = values[copies]

    def step(self, actions: Float64[np.ndarray, "n A"]) -> None:
        """Map the actions to the actuators' range and step ``frame_skip`` times."""
        self._controls[...] = actions * self._control_reach
        self.batch.step(nstep=self._frame_skip)
        self._keep_derived()

    def _keep_derived(self) -> None:
        """Keep copies of the derived fields, because MuJoCo's own cannot be set back when a state is."""
        self.derived = {name: values.copy() for name, values in self._computed.items()}

    def get_state(self) -> dict[str, np.ndarray]:
        """Return MuJoCo's integration state (time, positions, velocities, controls, warm start) and derived fields."""
        return {"physics": self.batch.state.copy(), **{name: values.copy() for name, values in self.derived.items()}}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Write the states of all copies."""
        self.batch.state[...] = state["physics"]
        self.derived = {name: state[name].copy() for name in self._computed}

    def render(self, copy: int) -> UInt8[np.ndarray, "height width 3"]:
        """Draw one copy as the model's first camera sees it.

        Raises:
            RuntimeError: No OpenGL context can be created.
        """
        data = self.batch.get_data(copy)
        mujoco.mj_forward(self.batch.get_model(copy), data)
        self.mark_task(data, copy)
        if self._renderer is None:
            self._renderer = _renderer(self.batch.model)
        self._renderer.update_scene(data, camera=0)
        return self._renderer.render()

    def close(self) -> None:
        """Release the OpenGL context of rendering."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None


def _renderer(model: mujoco.MjModel) -> mujoco.Renderer:
    try:
        return mujoco.Renderer(model, height=480, width=480)
    except Exception as error:  # each platform's loader fails in its own way
        raise RuntimeError(
            "no OpenGL context to render with: start Python with MUJOCO_GL=egl (GPU or Mesa) or MUJOCO_GL=osmesa "
            f"(software) in the environment ({type(error).__name__}: {error})"
        ) from error
