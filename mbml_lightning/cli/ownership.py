"""Who owns a run's folder: a run begins in an empty one, goes on in its own, and is refused in that of another."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from mbml_lightning.errors import CheckpointError, ConfigurationError
from mbml_lightning.files.run_folder import CONFIG, LAST, Held, difference, held, is_evaluated

WAYS = "give --ckpt_path last to go on with it, another --run, or --overwrite to replace it"


class Decision(NamedTuple):
    """How a training starts.

    Attributes:
        action: ``leave`` a finished run alone, ``begin`` in the folder, or ``resume`` its own run.
        checkpoint: What it goes on from, None for fresh weights.
    """

    action: Literal["leave", "begin", "resume"]
    checkpoint: Path | None = None


def decide(config: Mapping[str, Any], store: Path | None = None) -> Decision:
    """Decide how a training starts, so that no result of another run is lost.

    Args:
        config: The values of the whole configuration.
        store: The data that a collection writes at its end.

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
    there = None if overwrite is True else held(run)
    if there is None:
        return begin
    other = None if there.config is None else difference(there.config, config)
    if overwrite == "changed" and (other or there.config is None):
        return Decision("begin")
    if own and there.weights is not None:
        return Decision("resume", run / LAST)
    if there.config is not None and other is None:
        if there.weights is None:
            return begin  # it was killed before its first checkpoint: the same results come again
        if asked is None and is_finished(config, there, store):
            return Decision("leave")
    raise ConfigurationError(f"{run}: {_description(there, other, config)}: {WAYS}")


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
