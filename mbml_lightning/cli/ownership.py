"""Ownership of a run's folder: a run begins in an empty one, goes on in its own, and is refused in that of another."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mbml_lightning.data.offline import OfflineDataModule
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.errors import CheckpointError, ConfigurationError
from mbml_lightning.files.checkpoints import PATHS, Checkpoint
from mbml_lightning.files.configuration import CONFIG, difference
from mbml_lightning.files.run_folder import LAST, Held, held, is_evaluated

WAYS = "give --ckpt_path last to go on with it, another --run, or --overwrite to replace it"


class Decision(NamedTuple):
    """The decision how a training starts.

    Attributes:
        action: ``leave`` a finished run alone, ``begin`` in the folder, or ``resume`` its own run.
        checkpoint: What it goes on from, None for fresh weights.
    """

    action: Literal["leave", "begin", "resume"]
    checkpoint: Path | None = None


def decide(config: Mapping[str, Any], data: OfflineDataModule | OnlineDataModule) -> Decision:
    """Decide how a training starts, so that no result of another run is lost.

    Args:
        config: The values of the whole configuration.
        data: What the training learns from, not yet set up.

    Raises:
        ConfigurationError: The folder holds a run that would be lost.
        CheckpointError: The checkpoint to go on from is missing, or that of the folder is damaged.
    """
    run, asked, overwrite = Path(config["run"]), config["ckpt_path"], config["overwrite"]
    source = None if asked in (None, "last") else Path(asked)
    if source is not None and not source.is_file():
        raise CheckpointError(f"ckpt_path: {asked} is no file: give the last.ckpt of a run, or `last` for this run's")
    own = asked == "last" or (source is not None and source.resolve() == (run / LAST).resolve())
    begin = Decision("begin", None if own else source)
    store = Path(data.store) if isinstance(data, OnlineDataModule) else None
    there = None if overwrite is True else held(run)
    if there is None and store is not None and store.exists() and not overwrite:
        raise ConfigurationError(f"data.store: {store} holds data already: give another --data.store, or --overwrite")
    if there is None:
        return begin
    other = None if there.config is None else difference(there.config, config)
    if overwrite == "changed" and (other or there.config is None or is_stale(there, config, data)):
        return Decision("begin")
    if own and there.weights is not None:
        return Decision("resume", run / LAST)
    if there.config is not None and other is None:
        if there.weights is None:
            return begin  # it was killed before its first checkpoint: the same results come again
        if asked is None and is_finished(config, there, store):
            return Decision("leave")
    raise ConfigurationError(f"{run}: {_description(there, other, config)}: {WAYS}")


def is_stale(there: Held, config: Mapping[str, Any], data: OfflineDataModule | OnlineDataModule) -> bool:
    """Tell whether the data, a teacher or an ensemble that a run has learned from is not what is there now."""
    now = {data.read().digest} if isinstance(data, OfflineDataModule) else set[str | None]()
    now |= {Checkpoint.read(path).digest for path in sources(config["model"]) if Path(path).is_file()}
    return not there.learned_from <= now


def sources(arguments: Any) -> Iterator[str]:
    """Give the checkpoints that a method's arguments name."""
    for name, value in arguments.items() if isinstance(arguments, Mapping) else ():
        if isinstance(value, Mapping):
            yield from sources(value)
        elif name in PATHS and value is not None:
            yield value


def home(checkpoint: str | None) -> Path | None:
    """Find the run's folder that a checkpoint lies in, wherever it was moved; None for a checkpoint outside of any."""
    folders = Path(checkpoint).resolve().parents[:2] if checkpoint not in (None, "last") else ()
    return next((folder for folder in folders if (folder / CONFIG).is_file()), None)


def _description(there: Held, other: str | None, config: Mapping[str, Any]) -> str:
    """Say what run a folder holds."""
    if there.config is None:
        return f"holds results without the {CONFIG} that tells whose they are"
    if other is not None:
        return f"holds a run of another configuration ({other})"
    return f"holds this run, {there.updates} of {config['trainer']['max_steps']} updates done"


def is_finished(config: Mapping[str, Any], there: Held, store: Path | None) -> bool:
    """Tell whether a run of this configuration has made all its updates, its evaluation and its data."""
    evaluates = config["evaluation"]["splits"] and config["trainer"]["limit_val_batches"] != 0
    done = there.updates >= config["trainer"]["max_steps"] and (store is None or store.is_dir())
    return done and (not evaluates or is_evaluated(Path(config["run"]), there.weights))
