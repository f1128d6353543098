"""Writing a store: whole beside its place, then renamed into it."""

import hashlib
import io
import json
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbml_lightning.errors import StoreError
from mbml_lightning.files.store import (
    FIELDS,
    META,
    SCHEMA,
    TaskRecord,
    check_shapes,
    check_values,
    fields_of,
    replaced_by,
    task_folder,
)
from mbml_lightning.files.writing import FREE, hash_json, naming

UNCHANGED = f"the target is as it was: {FREE}, then write again"


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
    """Write K tasks beside the target, then rename: the target is the whole new store, or what it was before.

    The records are the tasks 0 .. K-1 in any order, all with the same N, S and A. ``collector`` is plain data: a short
    text and whatever made the transitions. ``overwrite`` replaces a store, never a folder that holds anything else. A
    `StoreError` says that records are no store, that the target is taken or that a write failed.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> import numpy as np
        >>> from mbml_lightning.files.store import TaskRecord, read_store
        >>> from mbml_lightning.files.store_writing import write_store
        >>> shapes = {"observations": (10, 4), "actions": (10, 2), "rewards": 10, "next_observations": (10, 4)}
        >>> fields = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        >>> fields |= {"terminations": np.zeros(10, bool), "truncations": np.arange(10) == 9}
        >>> folder, goal = Path(mkdtemp(), "data"), [0.0, 1.0]
        >>> about = {"env_id": "own/Task-v0", "distribution": "Task", "split": "train", "collector": {"method": "mine"}}
        >>> write_store(folder, [TaskRecord(0, goal, fields)], **about)
        >>> store = read_store(folder)
        >>> store.tasks[0].task, store.tasks[0].fields["observations"].shape
        ([0.0, 1.0], (10, 4))
    """
    root = root.resolve()  # a link stays, and the folder that it leads to is replaced
    records = sorted(records, key=lambda record: record.task_index)
    shared = {"schema": SCHEMA, "env_id": env_id, "distribution": distribution, "split": split}
    shared |= {"task_count": len(records), "collector": collector}
    _check_records(root, records, shared)
    if root.exists() and not overwrite:
        raise StoreError(f"{root}: exists; choose another folder, or ask to overwrite it")
    with naming(root, StoreError, "choose another folder", "replaced"):
        for path in root.iterdir() if root.exists() else ():
            if not (path / META).is_file():
                raise StoreError(f"{path}: is no task of a store; move it away, then write again")
    partial = root.with_name(f".{root.name}.partial")
    try:
        with naming(root, StoreError, UNCHANGED, "written"):
            shutil.rmtree(partial, ignore_errors=True)  # a killed process may have left it
            for record in records:
                _write_task(task_folder(partial, record.task_index), record, shared)
            _swap(partial, root, overwrite)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _check_records(root: Path, records: Sequence[TaskRecord], shared: Mapping[str, Any]) -> None:
    """Refuse records that could not be read again as they were given."""
    indices = [record.task_index for record in records]
    if not records or indices != list(range(len(records))):
        raise StoreError(f"{root}: task_index of the records is {indices}, not 0 .. K-1; give each task once")
    sizes: dict[str, int] = {}
    plain = "give fields as arrays, task and collector as finite numbers, text, lists and dicts"
    for record in records:
        folder = task_folder(root, record.task_index)
        if odd := sorted(record.fields.keys() ^ fields_of(records[0].fields).keys()):
            raise StoreError(f"{folder}: field {odd[0]} is missing or unknown; give {', '.join(FIELDS)}")
        with naming(folder, StoreError, plain, "written"):
            check_shapes(folder, record.fields, sizes)
            check_values(folder, record.fields)
            hash_json({**shared, "task": record.task, "task_collector": record.collector})


def _write_task(folder: Path, record: TaskRecord, shared: Mapping[str, Any]) -> None:
    """Write the fields of one task, as NumPy would, and its meta."""
    folder.mkdir(parents=True)
    meta = {**shared, "task_index": record.task_index, "task": record.task, "task_collector": record.collector}
    meta |= {"count": len(record.fields["rewards"]), "fields": {}}
    for name in fields_of(record.fields):
        array, header = np.ascontiguousarray(record.fields[name]), io.BytesIO()
        np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
        digest = _write(folder / f"{name}.npy", [header.getvalue(), array.data.cast("B")])
        meta["fields"][name] = {"shape": list(array.shape), "dtype": str(array.dtype), "sha256": digest}
    meta["sha256"] = hash_json(meta)
    _write(folder / META, [json.dumps(meta, indent=2).encode()])


def _write(path: Path, parts: Iterable[bytes | memoryview]) -> str:
    """Write one file down to the disk and return its SHA-256."""
    digest = hashlib.sha256()
    with naming(path, StoreError, UNCHANGED, "written"), open(path, "wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _swap(partial: Path, root: Path, overwrite: bool) -> None:
    """Rename the new store into place; a failure renames the old one back, and after a kill reading tells how."""
    old = replaced_by(root)
    if overwrite and root.exists():
        shutil.rmtree(old, ignore_errors=True)  # a killed process may have left it
        os.rename(root, old)
    try:
        os.rename(partial, root)
    except BaseException:
        if not root.exists() and old.exists():
            os.rename(old, root)
        raise
    shutil.rmtree(old, ignore_errors=True)
