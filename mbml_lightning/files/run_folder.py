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
from omegaconf import OmegaConf

from mbml_lightning.errors import ConfigurationError, ResultsError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.writing import FREE, naming

CONFIG, LAST, LOCK = "config.yaml", "last.ckpt", ".lock"
RESULTS = ("evaluation*.json", "trajectories*.npz", "validations", "data", "replay.f32")
FILES = (CONFIG, LAST, "metrics.jsonl", "posteriors.npz", "wandb_id", *RESULTS)
"""Names of what a run writes in its folder."""
DECIDES = {"model", "data", "evaluation", "sensitivity"}  # sections whose arguments decide what a run leaves
ELSEWHERE = {"store", "teachers", "checkpoint", "next_state_checkpoint", "collectors", "folder", "copies", "verify"}
"""Arguments that say where something is, or how fast it is done."""


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


def saved_configuration(run: Path) -> dict[str, Any] | None:
    """Read the values of the configuration that a run has saved; None if it has not, or they cannot be read."""
    try:
        values = OmegaConf.to_container(OmegaConf.load(run / CONFIG), resolve=True)
    except Exception:  # a file that anyone may have edited
        return None
    return values if isinstance(values, dict) else None  # type: ignore[return-value]


def is_evaluated(run: Path, weights: str | None) -> bool:
    """Tell whether a folder has an evaluation of these weights."""
    for path in run.glob("evaluation*.json"):
        try:
            if json.loads(path.read_bytes())["made_of"]["weights"] == weights:
                return True
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return False


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """Name the first argument in which two configurations make different runs, with both values; None if there is none.

    Where files are, and on what machine a run is made, make no difference.
    """
    old, new = (dict(_deciding(config)) for config in (before, now))
    for name in [*new, *(old.keys() - new.keys())]:
        if (was := old.get(name)) != (is_now := new.get(name)):
            return f"{name} is {was} there and {is_now} here"
    return None


def _deciding(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the arguments that decide what a run leaves, by dotted name."""
    yield "seed_everything", config.get("seed_everything")
    yield "trainer.max_steps", config.get("trainer", {}).get("max_steps")
    for section in sorted(DECIDES & config.keys()):
        yield from _flat(config[section], section)


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if key not in ELSEWHERE:
                yield from _flat(inner, name if key == "init_args" else f"{name}.{key}")
    else:
        yield name, value
