"""The vector environment of every task distribution: episodes, seeds and resets over a batched simulation."""

import math
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from jaxtyping import Bool, Float32, Float64, UInt8

from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.simulation import RewardTerms

Observations = Float32[np.ndarray, "n S"]
Flags = Bool[np.ndarray, " n"]


class TaskVectorEnv(VectorEnv[np.ndarray, np.ndarray, np.ndarray]):
    """Environment copies, copy i under ``tasks[i]``, stepped together without Python per transition.

    ``step`` returns float32 observations (n, S), float64 rewards (n,), terminations, truncations (the horizon is
    always a truncation) and the named terms of the reward as infos, each with its mask ``_<term>``. The same seed,
    task and actions give the same trajectory bit for bit, whatever the other copies do and however many threads.

    Args:
        distribution: The family of the tasks.
        tasks: One for each copy, (n, *task_shape).
        num_threads: Threads of the physics; None takes as many CPUs as pay for the number of copies.
        autoreset_mode: Behaviour at an episode's end, as Gymnasium defines it. With DISABLED, ended copies must be
            reset by ``reset(options={"reset_mask": mask})`` before the next step.
        render_mode: None or "rgb_array".
        horizon: Steps after which an episode is truncated, by default the distribution's; infinity for never.
    """

    def __init__(
        self,
        distribution: TaskDistribution,
        tasks: np.ndarray | Sequence[Any],
        num_threads: int | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
        render_mode: str | None = None,
        horizon: int | float | None = None,
    ) -> None:
        self.distribution, self.horizon = distribution, horizon or distribution.horizon
        self.tasks = distribution.validate_tasks(tasks)
        self.num_envs = len(self.tasks)
        self.autoreset_mode = AutoresetMode(autoreset_mode)
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": distribution.frames_per_second,
            "autoreset_mode": self.autoreset_mode,
        }
        self.render_mode = render_mode
        self.single_observation_space = distribution.observation_space
        self.single_action_space = distribution.action_space
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.generators = [seeding.np_random()[0] for _ in range(self.num_envs)]
        self.num_threads = num_threads or self._threads_that_pay()
        self._simulation = distribution.simulation(self.tasks, self.num_threads)
        self._actions = np.empty((self.num_envs, distribution.action_dim))
        self._elapsed = np.zeros(self.num_envs, dtype=np.int64)
        self._over = np.ones(self.num_envs, dtype=np.bool_)  # copies that cannot be stepped before a reset
        self._observations = np.zeros((self.num_envs, distribution.observation_dim), dtype=np.float32)
        self._started = False
        self.outcomes = np.zeros((self.num_envs, 0))
        """Measurements of the last step on which rewards depend ``(n, O)``; overwritten by the next step."""

    def _threads_that_pay(self) -> int:
        cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return min(cpus, max(1, self.num_envs // self.distribution.copies_per_thread))

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Observations, dict[str, Any]]:
        """Start new episodes in all environment copies, or in some of them.

        Args:
            seed: None goes on with each copy's own generator; an int s seeds copy i with s + i; a list seeds each
                copy (None: not this one).
            options: ``{"reset_mask": (n,) bool array}`` resets these copies only.

        Returns:
            The observations of all copies, and no infos.
        """
        mask = self._reset_mask(options or {})
        seeds = [seed + i for i in range(self.num_envs)] if isinstance(seed, int) else seed
        if seeds is not None:
            if len(seeds) != self.num_envs:
                raise ValueError(f"seed has {len(seeds)} entries for {self.num_envs} copies")
            for copy in np.flatnonzero(mask).tolist():
                if seeds[copy] is not None:
                    self.generators[copy] = seeding.np_random(seeds[copy])[0]
        self._restart(mask)
        self._started = True
        return self._observations.copy(), {}

    def _reset_mask(self, options: dict[str, Any]) -> Flags:
        mask = options.get("reset_mask")
        if mask is None:
            return np.ones(self.num_envs, dtype=np.bool_)
        if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != (self.num_envs,):
            raise ValueError(f"options['reset_mask'] must be a bool array of shape ({self.num_envs},), got {mask!r}")
        if not mask.any():
            raise ValueError("options['reset_mask'] selects no copy")
        if not self._started and not mask.all():
            raise ValueError("options['reset_mask']: the first reset must be of all copies")
        return mask

    def _restart(self, mask: Flags) -> None:
        self._simulation.reset(mask, self.generators)
        self._elapsed[mask] = 0
        self._over = self._over & ~mask
        self._observations = self._simulation.observe()

    def step(self, actions: np.ndarray) -> tuple[Observations, Float64[np.ndarray, " n"], Flags, Flags, dict[str, Any]]:
        """Take one action in each copy; actions outside [-1, 1] are clipped.

        Raises:
            ValueError: The actions have another shape, or are not numbers.
            RuntimeError: A copy was not reset before its first step, or after its end with autoreset disabled.
        """
        actions = self._clip(actions)
        over = self._over if np.count_nonzero(self._over) else None
        if over is not None and (self.autoreset_mode is not AutoresetMode.NEXT_STEP or not self._started):
            raise RuntimeError(f"copies {np.flatnonzero(over).tolist()} must be reset before they are stepped")
        self._simulation.step(actions)
        self._elapsed += 1
        self._observations = self._simulation.observe()
        self.outcomes = self._simulation.outcomes(self._observations)
        terms = self.distribution.reward_terms(self.tasks, actions, self.outcomes)
        terminations = self._simulation.terminated(self._observations)
        truncations = self._elapsed >= self.horizon
        if over is not None:  # these were to be reset in place of a step: undo what the step did to them
            for result in (*terms.values(), terminations, truncations):
                result[over] = 0
            self._restart(over)
        rewards = np.zeros(self.num_envs)
        for term in terms.values():
            rewards += term
        infos = _infos(terms, np.ones_like(terminations) if over is None else ~over)
        self._over = terminations | truncations
        if self.autoreset_mode is AutoresetMode.SAME_STEP and np.count_nonzero(self._over):
            infos = self._restart_at_once(self._over, infos)
        return self._observations.copy(), rewards, terminations, truncations, infos

    def _clip(self, actions: np.ndarray) -> Float64[np.ndarray, "n A"]:
        actions = np.asarray(actions)
        if actions.shape != self._actions.shape:
            raise ValueError(f"actions have shape {actions.shape}, expected {self._actions.shape}")
        self._actions[...] = actions
        np.maximum(self._actions, -1.0, out=self._actions)
        np.minimum(self._actions, 1.0, out=self._actions)
        if math.isnan(self._actions.sum()):
            copies = np.flatnonzero(np.isnan(self._actions).any(axis=1)).tolist()
            raise ValueError(f"actions of copies {copies} are not numbers")
        return self._actions

    def _restart_at_once(self, ended: Flags, infos: dict[str, Any]) -> dict[str, Any]:
        """Reset the copies that ended in this step, and keep their last observations and infos under ``final_``."""
        final_observations = np.full(self.num_envs, None, dtype=object)
        for copy in np.flatnonzero(ended).tolist():
            final_observations[copy] = self._observations[copy].copy()
        final_info = {key: np.where(ended, value, np.zeros_like(value)) for key, value in infos.items()}
        running = {key: np.where(ended, np.zeros_like(value), value) for key, value in infos.items()}
        self._restart(ended)
        return {
            **running,
            "final_obs": final_observations,
            "_final_obs": ended.copy(),
            "final_info": final_info,
            "_final_info": ended.copy(),
        }

    def get_state(self) -> dict[str, np.ndarray]:
        """Return all from which the copies go on bit-identically, but for the generators of later resets."""
        return {"elapsed": self._elapsed.copy(), "over": self._over.copy(), **self._simulation.get_state()}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Go on from a state that :meth:`get_state` returned, of this or of an equal environment.

        Raises:
            ValueError: It is the state of another environment.
        """
        expected = {name: array.shape for name, array in self.get_state().items()}
        given = {name: np.shape(array) for name, array in state.items()}
        if given != expected:
            raise ValueError(f"the state has arrays {given}, this environment has {expected}")
        self._simulation.set_state(state)
        self._elapsed, self._over = state["elapsed"].copy(), state["over"].copy()
        self._observations = self._simulation.observe()
        self._started = True

    def __getstate__(self) -> dict[str, Any]:
        """Return what pickle and deepcopy keep: of the physics its state alone, and nothing of rendering."""
        return vars(self) | {"_simulation": self._simulation.get_state()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Make the physics anew where a pickle or a copy goes on."""
        vars(self).update(state)
        self._simulation = self.distribution.simulation(self.tasks, self.num_threads)
        self._simulation.set_state(state["_simulation"])

    def render(self) -> tuple[UInt8[np.ndarray, "height width 3"], ...] | None:
        """Draw each copy if ``render_mode`` is "rgb_array"."""
        if self.render_mode is None:
            return None
        return tuple(self._simulation.render(copy) for copy in range(self.num_envs))

    def close_extras(self, **kwargs: Any) -> None:
        """Release the resources of rendering when Gymnasium closes the environment."""
        self._simulation.close()


def _infos(terms: RewardTerms, mask: Flags) -> dict[str, Any]:
    return {**terms, **{f"_{name}": mask.copy() for name in terms}}
