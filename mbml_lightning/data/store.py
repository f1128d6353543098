"""The data store: what was collected in K tasks, one folder a task and one ``.npy`` a field.

::

    <root>/task-00/{observations,actions,rewards,next_observations,terminations,truncations}.npy
                   meta.json     what the task is, what collected it, shape, dtype and SHA-256 of each field
           task-01/ ...

A store is written whole or not at all, and checked whole before anything of it is used. ``meta.json`` is only ever
compared with the files, never followed. Every task holds the same count N, so that K tasks stack into one tensor.
"""

import glob
import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


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
SCHEMA = 1
META = "meta.json"
SHARED = {"schema": int, "env_id": str, "distribution": str, "split": str, "task_count": int, "collector": dict}
OWN = {"task_index": int, "task": list, "task_collector": dict, "count": int, "fields": dict, "sha256": str}
ROWS = 1 << 14  # rows checked at once, so that a store larger than the memory can be read
REWRITE = "correct it and write the store anew"
RESTORE = "copy the whole store again from its source, or collect it anew"
UNCHANGED = "the target is as it was: free disk space or correct the permissions, then write again"


class StoreError(ValueError):
    """A store that cannot be written or trusted: one line that names the file, the field and the remedy."""


@dataclass(frozen=True)
class TaskRecord:
    """The transitions of one task, in the order in which they were collected.

    Args:
        task_index: Place of the task on the axis K, from 0.
        task: Parameters of the task: plain lists of numbers, maybe nested.
        fields: One array for each name of ``FIELDS``.
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
        digest: One SHA-256 over all metas, and so over all fields: what a checkpoint records of its data.
    """

    root: Path
    meta: dict[str, Any]
    tasks: list[TaskRecord]
    digest: str


@contextmanager
def _naming(path: Path, remedy: str) -> Iterator[None]:
    """Turns any failure into the one line that names the file: write() and fsync() do not say it."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        reason = getattr(error, "strerror", None) or f"{type(error).__name__}: {error}"
        raise StoreError(" ".join(f"{getattr(error, 'filename', None) or path}: {reason}; {remedy}".split())) from error


def _folder(root: Path, index: int) -> Path:
    return root / f"task-{index:02d}"


def _meta_hash(meta: Mapping[str, Any]) -> str:
    """SHA-256 of everything else in a meta, however it is spaced; a ValueError where that is not plain JSON."""
    rest = {key: value for key, value in meta.items() if key != "sha256"}
    text = json.dumps(rest, sort_keys=True, allow_nan=False)
    if json.loads(text) != rest:
        raise ValueError("tuples and keys that are no text would come back as something else")
    return hashlib.sha256(text.encode()).hexdigest()


def _check_shapes(folder: Path, fields: Mapping[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Refuses fields that disagree with the sizes N, S, A known so far; adds those that were not known."""
    for name, (dtype, axes) in FIELDS.items():
        array, where = fields[name], f"{folder / name}.npy: {name} has"
        if array.dtype != np.dtype(dtype):
            raise StoreError(f"{where} dtype {array.dtype}, not {dtype}; {REWRITE}")
        shape = array.shape if array.ndim == len(axes) and array.size else (0,) * len(axes)
        known = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes)
        if any(size == 0 or sizes.setdefault(axis, size) != size for axis, size in zip(axes, shape, strict=True)):
            agree = "all fields and tasks must agree with each other and with what was asked for"
            raise StoreError(f"{where} shape {array.shape}, not ({known}): {agree}; {REWRITE}")


def _check_values(folder: Path, fields: Mapping[str, np.ndarray]) -> None:
    """Refuses numbers that are not finite, and truth values that are neither 0 nor 1."""
    for name, array in fields.items():
        for start in range(0, len(array), ROWS):
            rows = np.asarray(array[start : start + ROWS])
            good = rows.view(np.uint8) <= 1 if rows.dtype == np.bool_ else np.isfinite(rows)
            if not good.all():
                row = start + int(np.argwhere(~good)[0, 0])
                raise StoreError(f"{folder / name}.npy: {name} is no finite number in row {row}; {REWRITE}")


def write_store(
    root: Path,
    records: Sequence[TaskRecord],
    *,
    env_id: str,
    distribution: str,
    split: str,
    collector: dict[str, Any],
    overwrite: bool = False,
) -> None:
    """Writes K tasks beside the target, then renames: the target is the whole new store, or what it was before.

    The records are the tasks 0 .. K-1 in any order, all with the same N, S and A. ``collector`` is plain data: a short
    text and whatever made the transitions. ``overwrite`` replaces a store, never a folder that holds anything else.

    Raises:
        StoreError: Records that are no store, a target that is taken, or a failed write; nothing was changed.
    """
    root = root.resolve()  # of a link, what it leads to is replaced, not the link
    records = sorted(records, key=lambda record: record.task_index)
    shared = {"schema": SCHEMA, "env_id": env_id, "distribution": distribution, "split": split}
    shared |= {"task_count": len(records), "collector": collector}
    _check_records(root, records, shared)
    _check_target(root, overwrite)
    partial = root.with_name(f".{root.name}.partial-{os.getpid()}")
    try:
        with _naming(root, UNCHANGED):
            shutil.rmtree(partial, ignore_errors=True)  # of a killed process that had our number
            for record in records:
                _write_task(_folder(partial, record.task_index), record, shared)
            _sync(partial)
            _swap(partial, root, overwrite)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_records(root: Path, records: Sequence[TaskRecord], shared: Mapping[str, Any]) -> None:
    """Refuses what could not be read again as it was given."""
    indices = [record.task_index for record in records]
    if not records or indices != list(range(len(records))):
        raise StoreError(f"{root}: task_index of the records is {indices}, not 0 .. K-1; give each task once")
    sizes: dict[str, int] = {}
    for record in records:
        folder = _folder(root, record.task_index)
        if odd := sorted(record.fields.keys() ^ FIELDS.keys()):
            raise StoreError(f"{folder}: field {odd[0]} is missing or unknown; give {', '.join(FIELDS)}")
        with _naming(folder, "give fields as arrays, task and collector as finite numbers, text, lists and dicts"):
            _check_shapes(folder, record.fields, sizes)
            _check_values(folder, record.fields)
            _meta_hash({**shared, "task": record.task, "task_collector": record.collector})


def _check_target(root: Path, overwrite: bool) -> None:
    """Refuses a target that is taken, and to replace anything but a store."""
    if root.exists():
        if not overwrite:
            raise StoreError(f"{root}: exists; choose another folder, or ask to overwrite it")
        with _naming(root, "choose another folder"):
            if foreign := [path for path in root.iterdir() if not (path / META).is_file()]:
                raise StoreError(f"{foreign[0]}: is no task of a store; move it away, then write again")


def _write_task(folder: Path, record: TaskRecord, shared: Mapping[str, Any]) -> None:
    """Writes the fields of one task, as NumPy would, and its meta."""
    folder.mkdir(parents=True)
    meta = {**shared, "task_index": record.task_index, "task": record.task, "task_collector": record.collector}
    meta |= {"count": len(record.fields["rewards"]), "fields": {}}
    for name in FIELDS:
        array, header = np.ascontiguousarray(record.fields[name]), io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
        digest = _write(folder / f"{name}.npy", [header.getvalue(), array.data.cast("B")])
        meta["fields"][name] = {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
    meta["sha256"] = _meta_hash(meta)
    _write(folder / META, [json.dumps(meta, indent=2).encode()])
    _sync(folder)


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> str:
    """Writes one file down to the disk and returns its SHA-256."""
    digest = hashlib.sha256()
    with _naming(path, UNCHANGED), open(path, "xb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _sync(folder: Path) -> None:
    """Brings the names in a folder down to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _swap(partial: Path, root: Path, overwrite: bool) -> None:
    """Renames the new store into place; a failure renames everything back."""
    replaced = root.with_name(f".{root.name}.replaced-{os.getpid()}")
    moves = [(root, replaced)] if overwrite and root.exists() else []
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in [*moves, (partial, root)]:
            os.rename(source, target)
            done.append((source, target))
        _sync(root.parent)
    except BaseException:
        for source, target in reversed(done):
            os.rename(target, source)
        raise
    if moves:
        shutil.rmtree(replaced, ignore_errors=True)


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
    with _naming(root, "correct the path or its permissions"):
        folders = _task_folders(root)
        metas = [_read_meta(folder) for folder in folders]
        shared = {key: metas[0][key] for key in SHARED}
        for index, (folder, meta) in enumerate(zip(folders, metas, strict=True)):
            expected = {**shared, "task_count": len(folders), "task_index": index}
            if odd := [key for key, value in expected.items() if meta[key] != value]:
                differs = f"{odd[0]} is {meta[odd[0]]!r}, not {expected[odd[0]]!r} as in these {len(folders)} folders"
                raise StoreError(f"{folder / META}: {differs}; {RESTORE}")
        if distribution not in (None, shared["distribution"]):
            given = f"distribution is {shared['distribution']!r}, not {distribution!r}"
            raise StoreError(f"{folders[0] / META}: {given}; give the store of that distribution")
        tasks = [_read_task(folder, meta, sizes, verify) for folder, meta in zip(folders, metas, strict=True)]
    digest = hashlib.sha256("".join(meta["sha256"] for meta in metas).encode()).hexdigest()
    shared |= {"count": sizes["N"], "observation_dim": sizes["S"], "action_dim": sizes["A"]}
    return Store(root, shared, tasks, digest)


def _task_folders(root: Path) -> list[Path]:
    """The folders task-00 .. task-(K-1), which must be all there are."""
    if not root.is_dir():
        kept = sorted(root.parent.glob(f".{glob.escape(root.name)}.replaced-*"))
        remedy = f"an overwriting was killed: mv {kept[-1]} {root}" if kept else "collect it, or correct the path"
        raise StoreError(f"{root}: there is no store; {remedy}")
    found = {path for path in root.iterdir() if path.name.startswith("task-")}
    folders = [_folder(root, index) for index in range(max(len(found), 1))]
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
    with _naming(path, RESTORE):
        meta = json.loads(path.read_bytes())
        if not isinstance(meta, dict) or "schema" not in meta:
            raise StoreError(f"{path}: has no schema, so it is no meta of a store; correct the path")
        if meta["schema"] != SCHEMA:
            raise StoreError(f"{path}: schema is {meta['schema']!r}, not {SCHEMA}; use the version that wrote it")
        if odd := [key for key, kind in (SHARED | OWN).items() if type(meta.get(key)) is not kind]:
            raise StoreError(f"{path}: {odd[0]} is missing or of another type; {RESTORE}")
        if meta["sha256"] != _meta_hash(meta):
            raise StoreError(f"{path}: sha256 is not that of the content, which was changed; {RESTORE}")
    return meta


def _read_task(folder: Path, meta: Mapping[str, Any], sizes: dict[str, int], verify: bool) -> TaskRecord:
    """Maps and checks the fields of one task; their names are ours, never the file's."""
    fields = {name: _map(_own(folder / f"{name}.npy", Path.is_file)) for name in FIELDS}
    _check_shapes(folder, fields, sizes)
    if meta["count"] != sizes["N"] or meta["fields"].keys() != FIELDS.keys():
        raise StoreError(f"{folder / META}: count or fields are not those of the files; {RESTORE}")
    for name, array in fields.items():
        path, stated = folder / f"{name}.npy", meta["fields"][name]
        seen: dict[str, object] = {"shape": list(array.shape), "dtype": str(array.dtype)}
        if verify:
            with _naming(path, RESTORE), open(path, "rb") as file:
                seen["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if odd := [key for key, value in seen.items() if not isinstance(stated, dict) or stated.get(key) != value]:
            raise StoreError(f"{path}: {odd[0]} of {name} is not that in {META}; {RESTORE}")
    _check_values(folder, fields)
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
