"""A run's folder: the files of a run, the run that a folder holds, and one process at a time."""

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from mbml_lightning.errors import ConfigurationError, ResultsError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.configuration import CONFIG, saved_configuration
from mbml_lightning.files.writing import FREE, naming

LAST, LOCK = "last.ckpt", ".lock"
RESULTS = ("evaluation*.json", "trajectories*.npz", "validations", "data", "replay.f32")
FILES = (CONFIG, LAST, "metrics.jsonl", "posteriors.npz", "wandb_id", *RESULTS)
"""Names of what a run writes in its folder."""


@contextmanager
def locked(run: Path) -> Iterator[None]:
    """Keep other processes out of a run's folder; the system frees the lock when this process ends, however it does."""
    lock = FileLock(run / LOCK)
    with naming(run / LOCK, ResultsError, FREE, "written"):
        run.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise ConfigurationError(f"{run}: another process works here: wait for it, or give another --run") from None
        except NotImplementedError:  # some network file systems
            logging.getLogger(__name__).warning("%s: cannot be locked: start no second process in it", run)
    try:
        yield
    finally:
        lock.release()


def found(run: Path, patterns: tuple[str, ...]) -> list[Path]:
    """List what a folder holds of some names."""
    return sorted(path for pattern in patterns for path in run.glob(pattern))


def clear(run: Path) -> None:
    """Remove the files of an earlier run, and leave what is not a run's."""
    with naming(run, ResultsError, "correct the permissions", "cleared"):
        for path in found(run, FILES):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()


@dataclass(frozen=True)
class Held:
    """The run that a folder holds.

    Args:
        updates: Those of its last checkpoint, 0 if it has none.
        config: Its configuration, None where that cannot be known.
        weights: SHA-256 of its last checkpoint's weights, None if it has none.
        learned_from: SHA-256 of the data, the teachers and the ensembles that these are learned from.
    """

    updates: int
    config: Mapping[str, Any] | None
    weights: str | None
    learned_from: frozenset[str] = frozenset()


def held(run: Path) -> Held | None:
    """Read which run a folder holds; None if it holds neither a checkpoint nor a result.

    Raises:
        CheckpointError: Its checkpoint is damaged.
    """
    if (run / LAST).exists():
        last = Checkpoint.read(run / LAST)
        sources = {last.record.get("data"), *last.record.get("parents", {}).values()} - {None}
        return Held(last.content["global_step"], last.record.get("config"), last.digest, frozenset(sources))
    return Held(0, saved_configuration(run), None) if found(run, RESULTS) else None


def is_evaluated(run: Path, weights: str | None) -> bool:
    """Tell whether a folder has an evaluation of these weights."""
    for path in run.glob("evaluation*.json"):
        try:
            if json.loads(path.read_bytes())["made_of"]["weights"] == weights:
                return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False
