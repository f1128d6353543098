"""Checkpoints: weights with a record of what they are; read without unpickling, refused where they do not fit."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.writing import FREE, replacing

CHECKPOINT_KEY = "mbml"  # where Lightning's dictionary holds our record
SCHEMA = 2
PATHS = {"store", "teachers", "checkpoint", "next_state_checkpoint"}  # where something is; hashes say what it is
BUDGETS = {"capacity", "interactions", "verify"}  # arguments of data modules that may grow before a run is resumed
RATES = {"lr"}  # arguments that may change when a run is resumed; the record says when they did


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """One checkpoint of a run; what does not fit is refused by a `CheckpointError`.

    Args:
        content: Lightning's dictionary of weights and training state, with our record under `CHECKPOINT_KEY`.
        path: The file, for messages.
    """

    content: dict[str, Any]
    path: str = "the checkpoint"

    @property
    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the method, by name."""
        return self.content["state_dict"]

    @property
    def record(self) -> dict[str, Any]:
        """The record of what the weights are: method, distribution, data, parents, configuration, versions."""
        return self.content[CHECKPOINT_KEY]

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return self.record["weights"]

    @classmethod
    def seal(cls, content: dict[str, Any], record: Mapping[str, Any]) -> "Checkpoint":
        """Add the record and the hashes of everything to ``content``; its last change before it is written."""
        content[CHECKPOINT_KEY] = {"schema": SCHEMA, **record, "weights": hash_tensors(content["state_dict"])}
        content[CHECKPOINT_KEY]["sha256"] = _seal_of(content)
        return cls(content)

    @classmethod
    def read(cls, path: str | Path) -> "Checkpoint":
        """Read a checkpoint to the CPU; refuse a damaged or foreign one, and run no code that it may hold."""
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except OSError as error:
            reason = "no such checkpoint" if isinstance(error, FileNotFoundError) else error.strerror
            raise CheckpointError(f"{path}: {reason}: run the phase that writes it first") from error
        except Exception as error:  # the parsers beneath raise nearly anything on a damaged file
            raise CheckpointError(f"{path}: damaged, or holds code, which is never run: train again") from error
        record = content.get(CHECKPOINT_KEY) if isinstance(content, dict) else None
        if not isinstance(record, dict) or "state_dict" not in content:
            raise CheckpointError(f"{path}: not a checkpoint of this package: give the last.ckpt of a run")
        if (schema := record.get("schema")) != SCHEMA:
            remedy = "train again, or use the version that wrote it"
            raise CheckpointError(f"{path}: has schema {schema}, and this version reads {SCHEMA} only: {remedy}")
        if record.get("sha256") != _seal_of(content) or record.get("weights") != hash_tensors(content["state_dict"]):
            raise CheckpointError(f"{path}: its content is not that of its SHA-256: damaged or changed; train again")
        return cls(content, str(path))

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all."""
        with replacing(path, CheckpointError, f"{FREE}, then go on with --ckpt_path last") as file:
            torch.save(self.content, file)

    def check(self, **needed: str | None) -> None:
        """Refuse a record whose entries (``method``, ``distribution``, ...) are not what is needed."""
        for name, value in needed.items():
            if (own := self.record.get(name)) != value:
                raise CheckpointError(
                    f"{self.path}: {name} is {own}, {value} is needed: "
                    "give another checkpoint or change the configuration"
                )

    def check_data(self, digest: str | None) -> None:
        """Refuse weights that were trained on a store of another SHA-256 than the one in use."""
        if (own := self.record.get("data")) != digest:
            raise CheckpointError(
                f"{self.path}: was trained on other data (SHA-256 {str(own)[:12]}) than data.store holds "
                f"({str(digest)[:12]}): train it on this store, or give the store that it was trained on"
            )

    def check_parents(self, parents: Mapping[str, str]) -> None:
        """Refuse to resume with teachers or ensembles of another SHA-256 than those that the run began with."""
        before = self.record.get("parents", {})
        for name in before.keys() | parents.keys():
            if (old := before.get(name)) != (now := parents.get(name)):
                raise CheckpointError(
                    f"{self.path}: began with other weights of {name} (SHA-256 {str(old)[:12]}) than now "
                    f"({str(now)[:12]}): give those, or begin a new run with another --run"
                )

    def check_configuration(self, config: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Refuse to resume with other arguments of model or data, and list the learning rates that change.

        Of each change: ``step``, ``argument``, ``from`` and ``to``.
        """
        before, now = dict(_arguments(self.record.get("config") or config)), dict(_arguments(config))
        changes = []
        for name in sorted(before.keys() | now.keys()):
            if (old := before.get(name)) != (new := now.get(name)):
                if name.rpartition(".")[2] not in RATES:
                    remedy = "set it back, or begin a new run with another --run"
                    raise CheckpointError(f"{self.path}: {name} was {old} and is {new}: {remedy}")
                changes.append({"step": self.content["global_step"], "argument": name, "from": old, "to": new})
        return changes


def hash_tensors(content: Any) -> str:
    """Compute the SHA-256 of tensors in nested dicts and lists, whatever file or device they come from."""
    found, todo = hashlib.sha256(), [content]
    while todo:  # depth first; each leaf with its type and shape
        part = todo.pop()
        if isinstance(part, Tensor):
            found.update(f"{part.dtype}{tuple(part.shape)}".encode())
            found.update(part.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
        elif isinstance(part, Mapping):
            found.update(f"mapping{len(part)}".encode())
            todo += list(part.items())[::-1]
        elif isinstance(part, list | tuple):
            found.update(f"sequence{len(part)}".encode())
            todo += part[::-1]
        else:
            found.update(f"{type(part).__name__}:{part!r};".encode())
    return found.hexdigest()


def _seal_of(content: Mapping[str, Any]) -> str:
    """Hash everything but the weights, which have a hash of their own, and this hash."""
    record = {name: value for name, value in content[CHECKPOINT_KEY].items() if name != "sha256"}
    return hash_tensors([record, {x: value for x, value in content.items() if x not in ("state_dict", CHECKPOINT_KEY)}])


def _arguments(config: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Give the arguments of model and data that decide what a run is, by dotted name."""
    if isinstance(config, Mapping) and config:
        for key, value in config.items():
            if (name or key in ("model", "data")) and key not in PATHS | BUDGETS:
                yield from _arguments(value, name if key == "init_args" else f"{name}.{key}".lstrip("."))
    else:
        yield name, config
