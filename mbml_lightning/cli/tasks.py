"""The distribution of a run, and the number of its tasks where that is left to the data or to the weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mbml_lightning import envs
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import ConfigurationError, MBMLError
from mbml_lightning.files.checkpoints import Checkpoint

Values = dict[str, Any]


def distribution_of(values: Mapping[str, Any]) -> TaskDistribution:
    """Find the distribution of a configuration.

    Raises:
        ConfigurationError: There is none of that name, or it has no such options.
    """
    try:
        return envs.distribution(name := values["scale"]["distribution"])
    except ConfigurationError as error:
        section = "task" if name == values["task"]["distribution"] else "scale"
        raise ConfigurationError(f"{section}.distribution: {error}") from None


def stored_tasks(data: Mapping[str, Any]) -> int | None:
    """Count the tasks of the store that a method is to learn from; None if there is none, or it is yet to be made."""
    store = data.get("store")
    if store is None or "capacity" in data or not Path(store).is_dir():
        return None
    return len(list(Path(store).glob("task-*"))) or None


def checkpointed_tasks(path: str | Path) -> int | None:
    """Count the tasks that the weights of a checkpoint are for; None if it cannot be read, which is refused later."""
    try:
        tasks = Checkpoint.read(path).record.get("tasks")
    except MBMLError:
        return None
    return len(tasks) if tasks else None


def with_number_of_tasks(command: str, values: Values) -> Values:
    """Set ``num_tasks`` of method and data where it is null and the tasks are not all official ones of the split.

    The tasks of a training are those of its store, the tasks of a validation those of the weights.
    """
    model, data = (values[section].get("init_args") or {} for section in ("model", "data"))
    if model.get("num_tasks", 0) is not None:
        return values
    if command == "fit":
        count = stored_tasks(data)
    else:
        path = Path(values["run"], "last.ckpt") if values["ckpt_path"] == "last" else values["ckpt_path"]
        count = checkpointed_tasks(path) if path else None
    official = distribution_of(values).splits.get(model.get("split", "train"), ())
    if count is not None and count != len(official):
        model["num_tasks"] = count
        data |= {"num_tasks": count} if "num_tasks" in data else {}
    return values
