"""All task distributions by name."""

import ast
import functools
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, get_args

import numpy as np
from gymnasium.vector import AutoresetMode

from mbml_lightning.envs.ant import AntDir, AntDirFwd, AntGoal
from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.half_cheetah import HalfCheetahVel
from mbml_lightning.envs.humanoid import HumanoidDir, HumanoidDirM
from mbml_lightning.envs.maze import MazeMedium, UmazeGoalM
from mbml_lightning.envs.point import PointGoal
from mbml_lightning.envs.random_physics import HopperParam, WalkerParam
from mbml_lightning.envs.vector_env import TaskVectorEnv

FAMILIES: tuple[type[TaskDistribution], ...] = (
    # of the paper
    AntDir,
    AntGoal,
    HalfCheetahVel,
    HumanoidDirM,
    UmazeGoalM,
    WalkerParam,
    # beside them, for comparison with other papers
    AntDirFwd,
    HumanoidDir,
    HopperParam,
    MazeMedium,
    # the toy
    PointGoal,
)
DISTRIBUTIONS: dict[str, TaskDistribution] = {family.family: family() for family in FAMILIES}
"""Every distribution with its default options."""


def distribution(name: str, **options: Any) -> TaskDistribution:
    """The task distribution called ``name``, which may carry options: ``"AntDir+contact_forces=True"``.

    Args:
        name: Of the family, with or without options.
        options: Further ones.

    Raises:
        ValueError: There is none, or it has no such option.
    """
    family, *words = name.split("+")
    if family not in DISTRIBUTIONS:
        raise ValueError(f"no task distribution {family!r}: choose one of {', '.join(DISTRIBUTIONS)}")
    named = [_option(family, word) for word in words]
    if repeated := [option for option, _ in named if option in options or [o for o, _ in named].count(option) > 1]:
        raise ValueError(f"{family}: option {repeated[0]!r} is given twice")
    given = _checked(family, dict(named) | options)
    return _with_options(family, tuple(sorted(given.items()))) if given else DISTRIBUTIONS[family]


def _option(family: str, word: str) -> tuple[str, Any]:
    """A word ``option=value`` of a name."""
    option, equals, text = word.partition("=")
    if not equals:
        raise ValueError(f"{family}: {word!r} is no option, write it as option=value")
    try:
        return option, ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word stands for itself
        return option, text


def _checked(family: str, options: dict[str, Any]) -> dict[str, Any]:
    """Options of the right type, before they are a key of the cache, where 1 is True; 3 does for 3.0."""
    known = {field.name: field for field in fields(DISTRIBUTIONS[family])}
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise ValueError(f"{family} has no option {option!r}: choose from {', '.join(known) or 'none'}")
        kind, choices = type(known[option].default), get_args(known[option].type)  # choices of a Literal
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (choices and value not in choices):
            expected = " or ".join(choices) or f"a value of type {kind.__name__}"
            raise ValueError(f"{family}: {option} is {value!r}, expected {expected}")
        checked[option] = value
    return checked


@functools.cache
def _with_options(family: str, options: tuple[tuple[str, Any], ...]) -> TaskDistribution:
    return type(DISTRIBUTIONS[family])(**dict(options))


def make_vec_env(
    name: str,
    tasks: str | np.ndarray | Sequence[Any] = "train",
    *,
    num_envs: int = 1,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    **options: Any,
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
        options: Of the distribution.

    Raises:
        ValueError: Unknown distribution, option or set, bad tasks, or a ``num_envs`` that is no multiple of the tasks.

    Example:
        >>> from mbml_lightning.envs import distribution, make_vec_env
        >>> env = make_vec_env("AntDir", distribution("AntDir").tasks("test"))
        >>> observations, _ = env.reset(seed=0)
        >>> observations.shape, env.single_action_space.shape
        ((8, 27), (8,))
        >>> env.close()
    """
    family = distribution(name, **options)
    array = family.tasks(tasks) if isinstance(tasks, str) else family.validate_tasks(tasks)
    if num_envs != 1:
        if num_envs < 1 or num_envs % len(array):
            raise ValueError(f"num_envs is {num_envs}, expected a multiple of the {len(array)} tasks")
        array = np.repeat(array, num_envs // len(array), axis=0)
    return TaskVectorEnv(family, array, num_threads, autoreset_mode, render_mode)
