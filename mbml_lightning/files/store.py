"""The data store: what was collected in K tasks, one folder a task and one ``.npy`` a field; its form and its reading.

::

    <root>/task-00/{observations,actions,rewards,next_observations,terminations,truncations}.npy
                   meta.json     what the task is, what collected it, shape, dtype and SHA-256 of each field
                   outcomes.npy  what the simulation measured, where rewards depend on more than states tell
           task-01/ ...

A store is written whole or not at all, and checked whole before anything of it is used. ``meta.json`` is only ever
compared with the files, never followed. Every task holds the same count N, so that K tasks stack into one tensor.
"""

import glob
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mbml_lightning.errors import StoreError


class Field(NamedTuple):
    """What one ``.npy`` holds: the type of its numbers, and its axes in the package's alphabet."""

    dtype: str
    axes: str


FIELDS: dict[str, Field] = {
    "observations": Field("float32", "NS"),
    "actions": Field("float32", "NA"),
    "rewards": Field("float32", "N"),
    "next_observations": Field("float32", "NS"),
    "terminations": Field("bool", "N"),  # the task ended
    "truncations": Field("bool", "N"),  # only the time was up
}
OPTIONAL: dict[str, Field] = {
    "outcomes": Field("float32", "NO"),  # what the simulation measured, where rewards need it and states do not tell it
}
SCHEMA = 1
META = "meta.json"
SHARED = {"schema": int, "env_id": str, "distribution": str, "split": str, "task_count": int, "collector": dict}
OWN = {"task_index": int, "task": list, "task_collector": dict, "count": int, "fields": dict, "sha256": str}
DATA = ("env_id", "distribution", "split", "task", "fields")  # what data are, whoever collected them
ROWS = 1 << 14  # rows checked at once, so that a store larger than the memory can be read
REWRITE = "correct it and write the store anew"
RESTORE = "copy the whole store again from its source, or collect it anew"


@dataclass(frozen=True)
class TaskRecord:
    """The transitions of one task, in the order in which they were collected.

    Args:
        task_index: Place of the task on the axis K, from 0.
        task: Parameters of the task: plain lists of numbers, maybe nested.
        fields: One array for each name of ``FIELDS``, maybe of ``OPTIONAL``.
        collector: What is particular to the collection of this task (its seed, its return), as plain data.
    """

    task_index: int
    task: list[Any]
    fields: Mapping[str, np.ndarray]
    collector: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Store:
    """A store that was read and checked; its arrays are read-only maps of the files, shared by all processes.

    Args:
        root: Folder of the store.
        meta: What all tasks share: the keys of ``SHARED``, ``count`` (N), ``observation_dim`` (S), ``action_dim`` (A).
        tasks: The K tasks in their order.
        digest: One SHA-256 over all tasks and fields, whoever collected them: what a checkpoint records of its data.
    """

    root: Path
    meta: dict[str, Any]
    tasks: list[TaskRecord]
    digest: str


@contextmanager
def naming(path: Path, remedy: str) -> Iterator[None]:
    """Turns any failure into the one line that names the file: write() and fsync() do not say it."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise StoreError(" ".join(f"{getattr(error, 'filename', None) or path}: {reason}; {remedy}".split())) from error


def task_folder(root: Path, index: int) -> Path:
    """Where one task is."""
    return root / f"task-{index:02d}"


def meta_hash(meta: Mapping[str, Any]) -> str:
    """SHA-256 of everything else in a meta, however it is spaced; a ValueError where that is not plain JSON."""
    rest = {key: value for key, value in meta.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, allow_nan=False)
    if json.loads(text) != rest:
        raise ValueError("tuples and keys that are no text would come back as something else")
    return hashlib.sha256(text.encode()).hexdigest()


def fields_of(names: Iterable[str]) -> dict[str, Field]:
    """The fields that a task has which has some of these: all that are needed, and those that may be there."""
    return FIELDS | {name: OPTIONAL[name] for name in names if name in OPTIONAL}


def check_shapes(folder: Path, fields: Mapping[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Refuses fields that disagree with the sizes N, S, A known so far; adds those that were not known."""
    for name, (dtype, axes) in fields_of(fields).items():
        array, where = fields[name], f"{folder / name}.npy: {name} has"
        if array.dtype != np.dtype(dtype):
            raise StoreError(f"{where} dtype {array.dtype}, not {dtype}; {REWRITE}")
        shape = array.shape if array.ndim == len(axes) and array.size else (0,) * len(axes)
        known = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes)
        if any(size == 0 or sizes.setdefault(axis, size) != size for axis, size in zip(axes, shape, strict=True)):
            agree = "all fields and tasks must agree with each other and with what was asked for"
            raise StoreError(f"{where} shape {array.shape}, not ({known}): {agree}; {REWRITE}")


def check_values(folder: Path, fields: Mapping[str, np.ndarray]) -> None:
    """Refuses numbers that are not finite, and truth values that are neither 0 nor 1."""
    for name, array in fields.items():
        for start in range(0, len(array), ROWS):
            rows = np.asarray(array[start : start + ROWS])
            good = rows.view(np.uint8) <= 1 if rows.dtype == np.bool_ else np.isfinite(rows)
            if not good.all():
                row = start + int(np.argwhere(~good)[0, 0])
                raise StoreError(f"{folder / name}.npy: {name} is no finite number in row {row}; {REWRITE}")


def read_store(
    root: Path,
    *,
    distribution: str | None = None,
    observation_dim: int | None = None,
    action_dim: int | None = None,
    verify: bool = True,
) -> Store:
    """Opens a store after checking everything in it; ``verify=False`` leaves out the fields' SHA-256 only.

    A ``distribution``, ``observation_dim`` (S) or ``action_dim`` (A) that is given must be the store's.

    Raises:
        StoreError: The first fault.
    """
    sizes = {axis: size for axis, size in (("S", observation_dim), ("A", action_dim)) if size is not None}
    with naming(root, "correct the path or its permissions"):
        folders = _task_folders(root)
        metas = [_read_meta(folder) for folder in folders]
        shared = _shared(folders, metas)
        if distribution not in (None, made := shared["distribution"]):
            given = f"distribution is {made!r}, not {distribution!r}; give the store of that distribution"
            raise StoreError(f"{folders[0] / META}: {given}")
        tasks = [_read_task(folder, meta, sizes, verify) for folder, meta in zip(folders, metas, strict=True)]
        digest = meta_hash({"tasks": [{key: meta[key] for key in DATA} for meta in metas]})
    shared |= {"count": sizes["N"], "observation_dim": sizes["S"], "action_dim": sizes["A"]}
    return Store(root, shared, tasks, digest)


def _shared(folders: Sequence[Path], metas: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What all tasks share; refuses a folder that is not of the same store as the first."""
    shared = {key: metas[0][key] for key in SHARED}
    for index, (folder, meta) in enumerate(zip(folders, metas, strict=True)):
        expected = {**shared, "task_count": len(folders), "task_index": index}
        if odd := [key for key, value in expected.items() if meta[key] != value]:
            differs = f"{odd[0]} is {meta[odd[0]]!r}, not {expected[odd[0]]!r} as in these {len(folders)} folders"
            raise StoreError(f"{folder / META}: {differs}; {RESTORE}")
        if meta["fields"].keys() != metas[0]["fields"].keys():
            raise StoreError(f"{folder / META}: fields are not those of {folders[0].name}; {RESTORE}")
    return shared


def _task_folders(root: Path) -> list[Path]:
    """The folders task-00 .. task-(K-1), which must be all there are."""
    if not root.is_dir():
        kept = sorted(root.parent.glob(f".{glob.escape(root.name)}.replaced-*"))
        remedy = f"an overwriting was killed: mv {kept[-1]} {root}" if kept else "collect it, or correct the path"
        raise StoreError(f"{root}: there is no store; {remedy}")
    found = {path for path in root.iterdir() if path.name.startswith("task-")}
    folders = [task_folder(root, index) for index in range(max(len(found), 1))]
    if odd := sorted(found ^ set(folders)):
        raise StoreError(f"{odd[0]}: is missing, or one too many of {len(found)} tasks; {RESTORE}")
    return [_own(folder, Path.is_dir) for folder in folders]


def _own(path: Path, is_kind: Callable[[Path], bool]) -> Path:
    """The path itself, if it is there and no link: a store holds its own files."""
    if path.is_symlink():
        raise StoreError(f"{path}: is a link; put the file or folder itself in its place")
    if not is_kind(path):
        raise StoreError(f"{path}: is missing, or of another kind; {RESTORE}")
    return path


def _read_meta(folder: Path) -> dict[str, Any]:
    """The meta of one task, of this schema and as it was written."""
    path = _own(folder / META, Path.is_file)
    with naming(path, RESTORE):
        meta = json.loads(path.read_bytes())
        if not isinstance(meta, dict) or "schema" not in meta:
            raise StoreError(f"{path}: has no schema, so it is no meta of a store; correct the path")
        if meta["schema"] != SCHEMA:
            raise StoreError(f"{path}: schema is {meta['schema']!r}, not {SCHEMA}; use the version that wrote it")
        if odd := [key for key, kind in (SHARED | OWN).items() if type(meta.get(key)) is not kind]:
            raise StoreError(f"{path}: {odd[0]} is missing or of another type; {RESTORE}")
        if meta["sha256"] != meta_hash(meta):
            raise StoreError(f"{path}: sha256 is not that of the content, which was changed; {RESTORE}")
    return meta


def _read_task(folder: Path, meta: Mapping[str, Any], sizes: dict[str, int], verify: bool) -> TaskRecord:
    """Maps and checks the fields of one task; their names are ours, never the file's."""
    fields = {name: _map(_own(folder / f"{name}.npy", Path.is_file)) for name in fields_of(meta["fields"])}
    check_shapes(folder, fields, sizes)
    if meta["count"] != sizes["N"] or meta["fields"].keys() != fields.keys():
        raise StoreError(f"{folder / META}: count or fields are not those of the files; {RESTORE}")
    for name, array in fields.items():
        path, stated = folder / f"{name}.npy", meta["fields"][name]
        seen: dict[str, object] = {"shape": list(array.shape), "dtype": str(array.dtype)}
        if verify:
            with naming(path, RESTORE), open(path, "rb") as file:
                seen["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if odd := [key for key, value in seen.items() if not isinstance(stated, dict) or stated.get(key) != value]:
            raise StoreError(f"{path}: {odd[0]} of {name} is not that in {META}; {RESTORE}")
    check_values(folder, fields)
    return TaskRecord(meta["task_index"], meta["task"], fields, meta["task_collector"])


def _map(path: Path) -> np.ndarray:
    """Maps one whole ``.npy`` read-only: what is mapped is never unpickled, and ``np.load`` would open archives."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # the parsers beneath raise nearly anything on a broken header
        raise StoreError(f"{path}: is no whole NumPy file of plain numbers; {RESTORE}") from error
    if array.offset + array.nbytes != path.stat().st_size:
        raise StoreError(f"{path}: is longer than its header says; {RESTORE}")
    return array
