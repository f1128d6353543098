"""All task distributions by name."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.maze import UmazeGoalM
from mbml_lightning.envs.point import PointGoal
from mbml_lightning.envs.vector_env import TaskVectorEnv

DISTRIBUTIONS: dict[str, TaskDistribution] = {family.name: family for family in (UmazeGoalM(), PointGoal())}


def distribution(name: str) -> TaskDistribution:
    """The task distribution called ``name``.

    Raises:
        ValueError: There is none.
    """
    if name not in DISTRIBUTIONS:
        raise ValueError(f"no task distribution {name!r}: choose one of {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[name]


def make_vec_env(
    name: str,
    tasks: str | np.ndarray | Sequence[Any] = "train",
    *,
    num_envs: int = 1,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
) -> TaskVectorEnv:
    """The vector environment of a distribution; ``gymnasium.make_vec(env_id, tasks=...)`` comes here.

    Args:
        name: Of the distribution.
        tasks: The name of an official set, or the tasks themselves.
        num_envs: Copies: a multiple m of the tasks gives each task m neighbouring copies, so that arrays reshape to
            (K, m, ...); 1, Gymnasium's default, means one for each task.
        num_threads: See :class:`TaskVectorEnv`, as for the others.
        autoreset_mode: Gymnasium's.
        render_mode: None or "rgb_array".

    Raises:
        ValueError: Unknown distribution or set, bad tasks, or a ``num_envs`` that is no multiple of the tasks.
    """
    family = distribution(name)
    array = family.tasks(tasks) if isinstance(tasks, str) else family.validate_tasks(tasks)
    if num_envs != 1:
        if num_envs < 1 or num_envs % len(array):
            raise ValueError(f"num_envs is {num_envs}, expected a multiple of the {len(array)} tasks")
        array = np.repeat(array, num_envs // len(array), axis=0)
    return TaskVectorEnv(family, array, num_threads, autoreset_mode, render_mode)
