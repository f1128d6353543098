"""The single environment: a vector environment of one copy."""

import math
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from jaxtyping import Float32, UInt8

from mbml_lightning.envs.registry import distribution
from mbml_lightning.envs.vector_env import TaskVectorEnv


class TaskEnv(gym.Env[np.ndarray, np.ndarray]):
    """The environment of one task; ``gymnasium.make(env_id, task=...)`` makes it.

    It truncates at the horizon, unless Gymnasium's TimeLimit wrapper does so, which `gymnasium.make` puts around it and
    which takes ``max_episode_steps`` from there. Gymnasium shows "human" pictures through its
    HumanRendering wrapper, which needs pygame.

    Args:
        name: Name of the distribution.
        task: Of shape ``task_shape``; the first training task if None.
        render_mode: None or "rgb_array".
        options: Options of the distribution.

    Example:
        >>> import gymnasium as gym
        >>> import mbml_lightning.envs
        >>> env = gym.make("mbml/PointGoal-v0", task=[0.0, 1.0])
        >>> observation, _ = env.reset(seed=0)
        >>> observation, reward, terminated, truncated, terms = env.step(env.action_space.sample())
        >>> observation.shape, list(terms)
        ((2,), ['reward_goal'])
    """

    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        name: str,
        task: float | Sequence[Any] | np.ndarray | None = None,
        render_mode: str | None = None,
        **options: Any,
    ) -> None:
        registered = gym.registry.get(f"mbml/{name.partition('+')[0]}-v0")
        self._is_wrapped_by_make = registered is not None and registered.max_episode_steps is not None
        self.distribution = distribution(name, **options)
        tasks = self.distribution.tasks("train")[:1] if task is None else [task]
        self.copies = TaskVectorEnv(self.distribution, tasks, 1, AutoresetMode.DISABLED, render_mode)
        self.task = self.copies.tasks[0]
        self.metadata = {**TaskEnv.metadata, "render_fps": self.distribution.frames_per_second}
        self.render_mode = render_mode
        self.observation_space = self.distribution.observation_space
        self.action_space = self.distribution.action_space

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Float32[np.ndarray, " S"], dict[str, Any]]:
        """Start a new episode; there are no options."""
        super().reset(seed=seed)
        self.copies.generators[0] = self.np_random
        wrapped = self.spec is not None and self._is_wrapped_by_make  # `gymnasium.make` sets the spec
        self.copies.horizon = math.inf if wrapped else self.distribution.horizon
        observations, _ = self.copies.reset()
        return observations[0], {}

    def step(self, action: np.ndarray) -> tuple[Float32[np.ndarray, " S"], float, bool, bool, dict[str, Any]]:
        """Take an action; the info holds the named terms of the reward."""
        observations, rewards, terminations, truncations, infos = self.copies.step(np.asarray(action)[None])
        terms = {name: float(term[0]) for name, term in infos.items() if not name.startswith("_")}
        return observations[0], float(rewards[0]), bool(terminations[0]), bool(truncations[0]), terms

    def render(self) -> UInt8[np.ndarray, "height width 3"] | None:
        """Draw the state and the task if ``render_mode`` is "rgb_array"."""
        pictures = self.copies.render()
        return None if pictures is None else pictures[0]

    def close(self) -> None:
        """Release the resources of rendering."""
        self.copies.close()
