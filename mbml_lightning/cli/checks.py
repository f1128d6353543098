"""Checks of a whole configuration, for what its parser lets through: null, infinite numbers, sections that disagree."""

import math
from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from pkgutil import resolve_name
from types import NoneType
from typing import Any, NoReturn, cast, get_args, get_type_hints

from mbml_lightning.cli.tasks import distribution_of, stored_tasks
from mbml_lightning.cli.trainer_options import check_trainer
from mbml_lightning.data.budget import steps_of
from mbml_lightning.data.online import check_amounts
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import ConfigurationError, StoreError

Values = Mapping[str, Any]
PACKAGE = __name__.partition(".")[0]
SINGLE = dict.fromkeys(("data", "experiment", "method", "model", "run", "seed_everything"), object)
"""Arguments beside the sections that may not be null."""


def refuse(path: str, value: Any, remedy: str) -> NoReturn:
    """Raise an error of one line that says which argument is wrong, and what would be right."""
    raise ConfigurationError(f"{path} is {'null' if value is None else repr(value)[:100]}, but must be {remedy}")


# Single values ---------------------------------------------------------------------------------------------------


def check_values(config: Values, made: Mapping[str, type]) -> None:
    """Refuse null where an argument has to be given, numbers that are not finite, and texts that are not printable.

    ``made`` says what those sections become that have no ``class_path``.
    """
    single = [name for name, value in config.items() if not isinstance(value, Mapping)]
    for name in dict.fromkeys([*single, *made, *config]):  # first what others are interpolated from
        if name in made:
            check_arguments(name, made[name], config[name])
        else:
            check_value(name, config[name], str | None if name == "ckpt_path" else SINGLE.get(name, Any))


def check_arguments(path: str, constructor: Callable[..., Any], values: Any) -> None:
    """Compare values with the type hints of a constructor; classes of other packages check their own."""
    if not isinstance(values, Mapping):
        refuse(path, values, "a section")
    hints = hints_of(constructor) if constructor.__module__.startswith(PACKAGE) or "." not in path else {}
    for name, value in values.items():
        check_value(f"{path}.{name}", value, hints.get(name, Any))


def hints_of(constructor: Callable[..., Any]) -> dict[str, Any]:
    """Collect the type hints of all arguments, with those that a constructor hands to its parents as ``**kwargs``."""
    parents = reversed(constructor.__mro__) if isinstance(constructor, type) else ()
    makers = [vars(parent)["__init__"] for parent in parents if "__init__" in vars(parent)] or [constructor]
    hints: dict[str, Any] = {}
    for maker in makers:
        try:
            hints |= get_type_hints(maker)
        except NameError:  # another package's hint of a name that it imports for type checkers only
            continue
    return hints


def check_value(path: str, value: Any, hint: Any) -> None:
    """Compare one value, or all that it holds, with the hint of its argument."""
    if value is None and hint is not Any and NoneType not in get_args(hint):
        refuse(path, value, "given")
    if isinstance(value, str) and hint is not Any and not (value.strip() and value.isprintable()):
        refuse(path, value, "text")
    if isinstance(value, float) and not math.isfinite(value):
        refuse(path, value, "a finite number")  # results keep the configuration as JSON, which has no other
    if isinstance(value, Mapping) and "class_path" in value:
        check_arguments(path, resolve_name(value["class_path"]), value.get("init_args") or {})
    elif isinstance(value, Mapping) and is_dataclass(hint):
        check_arguments(path, cast("type", hint), value)
    elif isinstance(value, Mapping | list | tuple):
        for key, item in value.items() if isinstance(value, Mapping) else (("", item) for item in value):
            check_value(f"{path}.{key}" if key else path, item, Any if hint is Any else object)


# Sections together -----------------------------------------------------------------------------------------------


def check_agreement(config: Values, trains: bool) -> None:
    """Refuse a configuration whose sections, right by themselves, cannot be run together."""
    name, distribution = config["scale"]["distribution"], distribution_of(config)
    model, data = (config[section].get("init_args") or {} for section in ("model", "data"))
    check_tasks(name, distribution, model, data)
    evaluation, trainer = config["evaluation"], config["trainer"]
    for split in evaluation["splits"]:
        check_split("evaluation.splits", split, distribution)
    if evaluation["uncounted"] >= evaluation["episodes"]:
        refuse("evaluation.uncounted", evaluation["uncounted"], f"below evaluation.episodes, {evaluation['episodes']}")
    check_trainer(trainer)
    for name in ("devices", "num_nodes"):
        check_range(f"trainer.{name}", trainer[name], -1, 4096)
    if trains:
        if not isinstance(interval := trainer["val_check_interval"], int | None):
            refuse("trainer.val_check_interval", interval, "a number of blocks")
        check_range("trainer.val_check_interval", interval, 1, 10**9)
        check_range("trainer.max_steps", trainer["max_steps"], 1, 10**9)
        if not trainer["fast_dev_run"]:  # which collects little and keeps nothing
            check_collection(model, data, trainer["max_steps"])


def check_seed(seed: Any) -> None:
    """Refuse a seed that is no number, and what Lightning takes for any seed or none: true, false, null."""
    if type(seed) is not int:
        refuse("seed_everything", seed, "a whole number")
    check_range("seed_everything", seed, 0, 2**32 - 1)


def check_range(path: str, value: Any, low: int, high: int) -> None:
    """Refuse a number of one of Lightning's arguments that would run for ever, or not at all."""
    if isinstance(value, int) and not low <= value <= high:
        refuse(path, value, f"at least {low}" if value < low else f"at most {high:,}")


def check_split(path: str, split: Any, distribution: TaskDistribution) -> None:
    """Refuse a task set that the distribution does not have."""
    if split not in distribution.splits:
        refuse(path, split, f"among {', '.join(distribution.splits)}")


def check_tasks(name: str, distribution: TaskDistribution, model: Values, data: Values) -> None:
    """Refuse a method and data of other tasks than the task file's, of each other's, or of tasks that there are not."""
    split, given = model.get("split", "train"), model.get("num_tasks")
    check_split("model.split", split, distribution)
    held, official = stored_tasks(data), len(distribution.splits[split])
    if given is not None and given > (held or official):
        there = f"{held}, as in data.store" if held else f"{official}, the {split} tasks of {name}"
        refuse("model.num_tasks", given, f"at most {there}")
    for argument, expected in {"distribution": name, "split": split, "num_tasks": given}.items():
        for section, values in {"model": model, "data": data}.items():
            if (value := values.get(argument, expected)) != expected:
                refuse(f"{section}.{argument}", value, f"{'null' if expected is None else expected}, as elsewhere")


def check_collection(model: Values, data: Values, updates: int) -> None:
    """Refuse a collection that would keep fewer steps than are taken, or more, or that its copies cannot share."""
    if "capacity" not in data:
        return
    copies = data.get("copies", 1)
    steps = steps_of(updates, model.get("warmup", 0), copies, model.get("updates_per_step", 1))
    if data["capacity"] < steps:
        refuse("data.capacity", data["capacity"], f"at least {steps}, for model.warmup and trainer.max_steps")
    try:
        check_amounts(data["interactions"], steps, copies)
    except StoreError as error:
        raise ConfigurationError(str(error)) from None
