"""Task distributions by name: ours, those of installed packages, and those in a user's own modules."""

import ast
import functools
import importlib
import math
from collections.abc import Sequence
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points
from typing import Any, TypeVar, get_args

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.vector_env import TaskVectorEnv
from mbml_lightning.errors import ConfigurationError

DISTRIBUTIONS: dict[str, TaskDistribution] = {}
"""Every registered distribution with its default options."""
GROUP = "mbml_lightning.distributions"
"""Entry points of this group name the distributions of a package: ``MyDistribution = "my_module:MyDistribution"``."""
Kind = TypeVar("Kind")


def register(kind: Kind) -> Kind:
    """Make a distribution known by its ``family``, and to Gymnasium as ``mbml/<family>-v0``.

    A module that defines a distribution may use it as a decorator, above ``@dataclass(frozen=True)``. Defined anew, as
    in a notebook, a class takes the place of its older self.

    Raises:
        ConfigurationError: It is no task distribution, has no default options, or another one has its name.
    """
    path = _path(kind)
    if not (isinstance(kind, type) and issubclass(kind, TaskDistribution)):
        raise ConfigurationError(f"{path} is no task distribution: derive it from mbml_lightning.envs.TaskDistribution")
    family = getattr(kind, "family", None)
    if not isinstance(family, str) or not family.isidentifier():
        raise ConfigurationError(f"{path}: family is {family!r}, expected a name of letters and digits")
    known = DISTRIBUTIONS.get(family)
    if known is not None and _path(type(known)) != path:
        raise ConfigurationError(f"{path}: {_path(type(known))} is called {family!r} already: set another family")
    if type(known) is not kind:
        try:
            DISTRIBUTIONS[family] = kind()
        except TypeError as error:
            raise ConfigurationError(f"{path} cannot be made with default options: {error}") from None
    _register_id(family, kind.horizon)
    return kind


def _path(kind: Any) -> str:
    return f"{kind.__module__}.{kind.__qualname__}" if isinstance(kind, type) else repr(kind)


def _register_id(family: str, horizon: int | None = None) -> None:
    """Let ``gymnasium.make`` and ``make_vec`` make environments of a family, which may be imported later."""
    if (env_id := f"mbml/{family}-v0") in gym.registry:
        gym.registry[env_id].max_episode_steps = horizon or gym.registry[env_id].max_episode_steps
    else:
        gym.register(
            env_id,
            max_episode_steps=horizon,
            entry_point="mbml_lightning.envs.task_env:TaskEnv",
            vector_entry_point="mbml_lightning.envs.registry:make_vec_env",
            kwargs={"name": family},
        )


@functools.cache
def _installed() -> tuple[EntryPoint, ...]:
    """Find the distributions that installed packages name, without importing them."""
    return tuple(entry_points(group=GROUP))


def register_ids_of_packages() -> None:
    """Make the distributions of installed packages known to Gymnasium, without importing their modules."""
    for point in _installed():
        if point.name.isidentifier():  # others are rejected when they are imported
            _register_id(point.name)


def distribution(name: str, **options: Any) -> TaskDistribution:
    """Find the task distribution called ``name``, which may carry options: ``"AntDir+contact_forces=True"``.

    Args:
        name: Of the family, or the path of a class, ``my_module.MyDistribution``, which is then registered; with or
            without options.
        options: Further ones.

    Raises:
        ConfigurationError: There is none, or it has no such option.
    """
    word, *words = name.split("+")
    default = _find(word)
    family = default.family
    named = [_option(family, word) for word in words]
    if repeated := [option for option, _ in named if option in options or [o for o, _ in named].count(option) > 1]:
        raise ConfigurationError(f"{family}: option {repeated[0]!r} is given twice")
    given = _checked(default, dict(named) | options)
    return _with_options(type(default), tuple(sorted(given.items()))) if given else default


def recorded_distribution(name: str) -> TaskDistribution:
    """Find the task distribution that a file of a run names, without importing a module because a file says so.

    Raises:
        ConfigurationError: This process knows none of that name.
    """
    if "." in name.partition("+")[0]:
        raise ConfigurationError(f"no task distribution {name!r}: a file names a family, not the path of a class")
    return distribution(name)


def _find(name: str) -> TaskDistribution:
    """Find a distribution by the name of its family or the path of its class, with default options."""
    if "." in name:
        return DISTRIBUTIONS[register(_imported(name)).family]
    for point in _installed():
        if point.name == name:
            _register_installed(point)
    if name not in DISTRIBUTIONS:
        known = ", ".join(dict.fromkeys([*DISTRIBUTIONS, *(point.name for point in _installed())]))
        raise ConfigurationError(
            f"no task distribution {name!r}: choose one of {known}, or a class of your own, my_module.MyDistribution"
        )
    return DISTRIBUTIONS[name]


def _imported(path: str) -> Any:
    """Import a class by its path."""
    module, _, name = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"no task distribution {path!r}: {error}") from error


def _register_installed(point: EntryPoint) -> None:
    """Import and register the distribution that an installed package names."""
    try:
        kind = point.load()
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(f"no task distribution {point.name!r}, entry point {point.value}: {error}") from error
    register(kind)
    if kind.family != point.name:
        raise ConfigurationError(f"name the entry point {point.name} = {point.value} after the family, {kind.family}")


def every_distribution() -> dict[str, TaskDistribution]:
    """Import what installed packages name, and return all distributions by family, with default options.

    Raises:
        ConfigurationError: An installed package names a distribution that cannot be used.
    """
    for point in _installed():
        _register_installed(point)
    return dict(DISTRIBUTIONS)


def _option(family: str, word: str) -> tuple[str, Any]:
    """Read a word ``option=value`` of a name."""
    option, equals, text = word.partition("=")
    if not equals:
        raise ConfigurationError(f"{family}: {word!r} is no option, write it as option=value")
    try:
        return option, ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word stands for itself
        return option, text


def _checked(default: TaskDistribution, options: dict[str, Any]) -> dict[str, Any]:
    """Check the types of options before they are a key of the cache, where 1 is True; 3 is accepted for 3.0."""
    family, known = default.family, {field.name: field for field in fields(default)}
    checked = {}
    for option, value in options.items():
        if option not in known:
            raise ConfigurationError(f"{family} has no option {option!r}: choose from {', '.join(known) or 'none'}")
        kind, choices = type(known[option].default), get_args(known[option].type)  # choices of a Literal
        if kind is float and type(value) is int:
            value = float(value)
        if type(value) is not kind or (choices and value not in choices):
            expected = " or ".join(choices) or f"a value of type {kind.__name__}"
            raise ConfigurationError(f"{family}: {option} is {value!r}, expected {expected}")
        checked[option] = value
    return checked


@functools.cache
def _with_options(kind: type[TaskDistribution], options: tuple[tuple[str, Any], ...]) -> TaskDistribution:
    """Make a distribution with options, once."""
    return kind(**dict(options))


def make_vec_env(
    name: str,
    tasks: str | np.ndarray | Sequence[Any] = "train",
    *,
    num_envs: int = 1,
    num_threads: int | None = None,
    autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    render_mode: str | None = None,
    max_episode_steps: int | None = None,
    **options: Any,
) -> TaskVectorEnv:
    """Make the vector environment of a distribution; ``gymnasium.make_vec(env_id, tasks=...)`` calls it.

    Args:
        name: Name of the distribution.
        tasks: The name of an official set, or the tasks themselves.
        num_envs: Environment copies: a multiple m of the tasks gives each task m neighbouring copies, so that arrays
            reshape to (K, m, ...); 1, Gymnasium's default, means one for each task.
        num_threads: See :class:`TaskVectorEnv`, as for the others.
        autoreset_mode: See there.
        render_mode: None or "rgb_array".
        max_episode_steps: Steps after which an episode is truncated, by default the horizon; -1 for never.
        options: Options of the distribution.

    Raises:
        ConfigurationError: Unknown distribution, option or set, bad tasks, or a ``num_envs`` that is no multiple of
            the tasks.

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
            raise ConfigurationError(f"num_envs is {num_envs}, expected a multiple of the {len(array)} tasks")
        array = np.repeat(array, num_envs // len(array), axis=0)
    horizon = math.inf if max_episode_steps == -1 else max_episode_steps
    return TaskVectorEnv(family, array, num_threads, autoreset_mode, render_mode, horizon)
