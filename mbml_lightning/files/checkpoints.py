"""Checkpoints as data: written whole or not at all, read without unpickling, refused where they do not belong."""

import os
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.writing import content_hash

CHECKPOINT_KEY = "mbml"
"""Where a checkpoint says what it is of."""
SCHEMA = 1
PATHS = {"store", "teachers", "checkpoint", "next_state_checkpoint"}
"""Arguments that say where something is; what it is, hashes say."""
BUDGETS = {"capacity", "interactions", "verify"}
"""Arguments of data modules that may grow before a run goes on."""


def seal(checkpoint: dict[str, Any], made: Mapping[str, Any]) -> None:
    """Add what the checkpoint is of, the hash of its weights, and that of everything; the last change to it."""
    checkpoint[CHECKPOINT_KEY] = {"schema": SCHEMA, **made, "weights": content_hash(checkpoint["state_dict"])}
    checkpoint[CHECKPOINT_KEY]["sha256"] = _sealed(checkpoint)


def _sealed(checkpoint: Mapping[str, Any]) -> str:
    """The hash of all but the weights, which have one of their own, and this one."""
    made = {name: value for name, value in checkpoint[CHECKPOINT_KEY].items() if name != "sha256"}
    rest = {name: value for name, value in checkpoint.items() if name not in ("state_dict", CHECKPOINT_KEY)}
    return content_hash([made, rest])


def write_checkpoint(checkpoint: Mapping[str, Any], path: Path) -> None:
    """Write beside the file, bring it down to the disk, then rename it.

    Raises:
        CheckpointError: It cannot be written; the file is as it was.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save(checkpoint, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except (OSError, RuntimeError) as error:  # torch's writer raises its own after a failed write
        partial.unlink(missing_ok=True)
        cause = error if isinstance(error, OSError) else error.__context__
        reason = getattr(cause, "strerror", None) or error
        kept = "the one of before is kept" if path.exists() else "there is none of before"
        remedy = f"free disk space or correct the permissions, then go on with --ckpt_path last; {kept}"
        raise CheckpointError(f"{path}: cannot be written ({reason}): {remedy}") from error


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """All of a checkpoint, on the CPU; nothing in it is run.

    Raises:
        CheckpointError: If there is none, or it is damaged or not one of ours.
    """
    try:
        if not Path(path).is_file():  # a pipe would be waited for
            raise FileNotFoundError
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint: run the phase that writes it first") from None
    except pickle.UnpicklingError as error:
        raise CheckpointError(f"{path}: damaged, or holds code, which is never run: train again") from error
    except Exception as error:  # the parsers beneath raise nearly anything on a broken file
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise CheckpointError(f"{path}: damaged or no checkpoint ({reason}): train again") from error
    made = checkpoint.get(CHECKPOINT_KEY) if isinstance(checkpoint, dict) else None
    if not isinstance(made, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this package: give the last.ckpt of a run")
    if made.get("schema") != SCHEMA:
        raise CheckpointError(f"{path}: schema is {made.get('schema')}, not {SCHEMA}: use the version that wrote it")
    if made["sha256"] != _sealed(checkpoint) or made["weights"] != content_hash(checkpoint["state_dict"]):
        raise CheckpointError(f"{path}: its content is not that of its SHA-256: it was damaged or changed; train again")
    return {**checkpoint, "path": str(path)}


def check_made_by(checkpoint: Mapping[str, Any], **expected: str | None) -> None:
    """Compare what a checkpoint is of (``method``, ``distribution``, ...) with what is expected.

    Raises:
        CheckpointError: If they differ.
    """
    made = checkpoint.get(CHECKPOINT_KEY, {})
    for field, own in expected.items():
        if made.get(field) != own:
            raise CheckpointError(
                f"{_name(checkpoint)}: {field} is {made.get(field)}, {own} is needed: "
                "give another checkpoint or change the configuration"
            )


def check_data(checkpoint: Mapping[str, Any], digest: str | None) -> None:
    """Refuse what was trained on another store than the one in use.

    Raises:
        CheckpointError: If the stores' SHA-256 differ.
    """
    own = checkpoint[CHECKPOINT_KEY].get("data")
    if own != digest:
        raise CheckpointError(
            f"{_name(checkpoint)}: was trained on other data (SHA-256 {_short(own)}) than data.store holds "
            f"({_short(digest)}): train it on this store, or give the store that it was trained on"
        )


def check_parents(checkpoint: Mapping[str, Any], parents: Mapping[str, str]) -> None:
    """Refuse to go on with other teachers or ensembles than those that a run began with.

    Raises:
        CheckpointError: If the hashes of their weights differ.
    """
    before = checkpoint[CHECKPOINT_KEY].get("parents", {})
    for name in before.keys() | parents.keys():
        if before.get(name) != parents.get(name):
            raise CheckpointError(
                f"{_name(checkpoint)}: began with other weights of {name} (SHA-256 {_short(before.get(name))}) than "
                f"now ({_short(parents.get(name))}): give those, or begin a new run with another --run"
            )


def check_configuration(checkpoint: Mapping[str, Any], config: Mapping[str, Any]) -> None:
    """Refuse to go on with other arguments of model or data, which would make no run that can be repeated.

    Raises:
        CheckpointError: It names the first argument that differs.
    """
    before, now = (dict(_flat(x)) for x in (checkpoint[CHECKPOINT_KEY].get("config") or {}, config))
    for name in sorted(before.keys() | now.keys()):
        if before and before.get(name) != now.get(name):
            raise CheckpointError(
                f"{_name(checkpoint)}: {name} was {before.get(name)} and is {now.get(name)}: "
                "set it back, or begin a new run with another --run"
            )


def _flat(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Arguments of model and data that decide what a run is."""
    for section in ("model", "data"):
        yield from _leaves(section, config.get(section))


def _leaves(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if key not in PATHS | BUDGETS:
                yield from _leaves(f"{name}.{key}" if key != "init_args" else name, inner)
    else:
        yield name, value


def _name(checkpoint: Mapping[str, Any]) -> str:
    return str(checkpoint.get("path", "the checkpoint"))


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"
