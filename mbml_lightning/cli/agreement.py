"""Which arguments fit each other: what sections say apart must be one run on tasks that there are."""

from typing import Any

from mbml_lightning.cli.bounds import Values, bound_of, check_value, refuse
from mbml_lightning.envs import TaskDistribution, distribution
from mbml_lightning.errors import ConfigurationError


def check_agreement(config: Values, trains: bool) -> None:
    """Refuse a configuration whose sections cannot be run together.

    Args:
        config: All sections, each value of which is one that its argument may have.
        trains: Whether the trainer is to train.

    Raises:
        ConfigurationError: Two arguments do not fit each other.
    """
    try:
        family = distribution(config["task"]["distribution"])
    except ValueError as error:
        raise ConfigurationError(f"task.distribution: {error}") from None
    model, data = (config[section].get("init_args") or {} for section in ("model", "data"))
    check_tasks(family, {"model": model, "data": data})
    check_evaluation(family, config["evaluation"])
    trainer = config["trainer"]
    for name in ("devices", "num_nodes"):
        check_value(f"trainer.{name}", trainer[name], Any, bound_of(name))
    if trains:
        check_training(trainer)
        updates = int(trainer["fast_dev_run"]) or trainer["max_steps"]
        check_collection(model.get("warmup", 0) + updates, data)


def check_tasks(family: TaskDistribution, sections: dict[str, Values]) -> None:
    """Refuse sections that are about other tasks than the first of them, or about tasks that there are not."""
    first: dict[str, Any] = {"distribution": family.name}
    for section, values in sections.items():
        split, given = values.get("split", "train"), values.get("num_tasks")
        if split not in family.splits:
            refuse(f"{section}.split", split, f"among {', '.join(family.splits)}")
        count = len(family.splits[split])
        if given is not None and given > count:
            refuse(f"{section}.num_tasks", given, f"at most {count}, the {split} tasks of {family.name}")
        name = distribution(values.get("distribution", family.name)).name
        found = {"distribution": name, "split": split, "num_tasks": given or count}
        for name, value in found.items():
            if first.setdefault(name, value) != value:
                refuse(f"{section}.{name}", value, f"{first[name]}, as elsewhere")


def check_evaluation(family: TaskDistribution, evaluation: Values) -> None:
    """Refuse an evaluation on no such tasks, or of no episode."""
    for split in evaluation["splits"]:
        if split not in family.splits:
            refuse("evaluation.splits", split, f"among {', '.join(family.splits)}")
    if evaluation["uncounted"] >= evaluation["episodes"]:
        refuse("evaluation.uncounted", evaluation["uncounted"], f"below evaluation.episodes, {evaluation['episodes']}")


def check_training(trainer: Values) -> None:
    """Refuse a training without an end, and evaluations that are not counted in blocks of updates."""
    check_value("trainer.max_steps", trainer["max_steps"], int, bound_of("max_steps"))
    if not isinstance(interval := trainer["val_check_interval"], int | None):
        refuse("trainer.val_check_interval", interval, "a number of blocks")
    check_value("trainer.val_check_interval", interval, Any, bound_of("val_check_interval"))


def check_collection(steps: int, data: Values) -> None:
    """Refuse data that are to keep fewer steps than are taken, or more of them than there are."""
    if data.get("capacity", steps) < steps:
        refuse("data.capacity", data["capacity"], f"at least {steps}, model.warmup and trainer.max_steps together")
    if data.get("interactions", 0) > steps:
        raise ConfigurationError(f"data.interactions is {data['interactions']}, but only {steps} steps are collected")
