"""The data store: form and reading of the transitions of K tasks, one folder a task and one ``.npy`` a field.

::

    <root>/task-00/{observations,actions,rewards,next_observations,terminations,truncations}.npy
                   meta.json     the task, what collected it, and shape, dtype and SHA-256 of each field
                   outcomes.npy  what the simulation measured, where rewards depend on more than states tell
           task-01/ ...

A store is written whole or not at all, and checked whole before anything of it is used. ``meta.json`` is only ever
compared with the files, never followed. Every task holds the same count N, so that K tasks stack into one tensor.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mbml_lightning.errors import StoreError
from mbml_lightning.files.writing import hash_json, naming, read_sealed_json

FIELDS = {
    "observations": ("float32", "NS"),
    "actions": ("float32", "NA"),
    "rewards": ("float32", "N"),
    "next_observations": ("float32", "NS"),
    "terminations": ("bool", "N"),  # the task ended
    "truncations": ("bool", "N"),  # only the time was up
}
"""Type and axes of each ``.npy``, the axes in the package's alphabet."""
OPTIONAL = {"outcomes": ("float32", "NO")}
"""What the simulation measured, where rewards need it and states do not tell it."""
SCHEMA = 1
META = "meta.json"
SHARED = {"schema": int, "env_id": str, "distribution": str, "split": str, "task_count": int, "collector": dict}
OWN = {"task_index": int, "task": list, "task_collector": dict, "count": int, "fields": dict, "sha256": str}
HASHED = ("env_id", "distribution", "split", "task", "fields")  # enter the store's digest, which no collector changes
ROUNDING = 1e-5  # of float32 actions at the bounds
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
        collector: Facts about the collection of this task, as plain data: ``episode_returns`` in the order in which
            episodes ended; ``copies``, m, if rows are those of m environments in turn (row t m + c is step t of c).
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
        meta: Facts that all tasks share: the keys of ``SHARED``, ``count`` (N), ``observation_dim`` (S),
            ``action_dim`` (A).
        tasks: The K tasks in their order.
        digest: One SHA-256 over all tasks and fields, whoever collected them; checkpoints record it as their data.
    """

    root: Path
    meta: dict[str, Any]
    tasks: list[TaskRecord]
    digest: str


def task_folder(root: Path, index: int) -> Path:
    """Name the folder of one task."""
    return root / f"task-{index:02d}"


def fields_of(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """List the fields of a task that has these: all required ones, and of the optional ones those named."""
    return FIELDS | {name: OPTIONAL[name] for name in names if name in OPTIONAL}


def check_shapes(folder: Path, fields: Mapping[str, np.ndarray], sizes: dict[str, int]) -> None:
    """Refuse fields that disagree with the sizes N, S, A known so far; add those that were not known."""
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
    """Refuse numbers that are not finite, and truth values that are neither 0 nor 1."""
    for name, array in fields.items():
        for start in range(0, len(array), ROWS):
            rows = np.asarray(array[start : start + ROWS])
            good = rows.view(np.uint8) <= 1 if rows.dtype == np.bool_ else np.isfinite(rows)
            if not good.all():
                row = start + int(np.argwhere(~good)[0, 0])
                raise StoreError(f"{folder / name}.npy: {name} is no finite number in row {row}; {REWRITE}")


def check_actions(store: Store) -> None:
    """Refuse actions outside [-1, 1], which no environment of this package takes.

    Raises:
        StoreError: There is one; names its file and row.
    """
    for record in store.tasks:
        actions = record.fields["actions"]
        for start in range(0, len(actions), ROWS):
            outside = np.abs(np.asarray(actions[start : start + ROWS])).max(-1) > 1 + ROUNDING
            if outside.any():
                row = start + int(outside.argmax())
                value = float(np.abs(actions[row]).max())
                path = task_folder(store.root, record.task_index) / "actions.npy"
                remedy = "scale them to that and write the store anew"
                raise StoreError(f"{path}: actions in row {row} reach {value:.4g}, but must lie in [-1, 1]: {remedy}")


def read_store(
    root: Path,
    *,
    distribution: str | None = None,
    observation_dim: int | None = None,
    action_dim: int | None = None,
    verify: bool = True,
) -> Store:
    """Open a store after checking everything in it; ``verify=False`` leaves out the fields' SHA-256 only.

    A ``distribution``, ``observation_dim`` (S) or ``action_dim`` (A) that is given must be the store's. The first fault
    is raised as a `StoreError`.
    """
    sizes = {axis: size for axis, size in (("S", observation_dim), ("A", action_dim)) if size is not None}
    with naming(root, StoreError, "correct the path or its permissions"):
        folders = _task_folders(root)
        metas = _read_metas(folders)
        shared = {key: metas[0][key] for key in SHARED}
        if distribution not in (None, own := shared["distribution"]):
            given = f"distribution is {own!r}, not {distribution!r}; give the store of that distribution"
            raise StoreError(f"{folders[0] / META}: {given}")
        tasks = [_read_task(folder, meta, sizes, verify) for folder, meta in zip(folders, metas, strict=True)]
        digest = hash_json({"tasks": [{key: meta[key] for key in HASHED} for meta in metas]})
    shared |= {"count": sizes["N"], "observation_dim": sizes["S"], "action_dim": sizes["A"]}
    return Store(root, shared, tasks, digest)


def replaced_by(root: Path) -> Path:
    """Name the place where an overwriting keeps the old store until the new one is there."""
    return root.with_name(f".{root.name}.replaced")


def _task_folders(root: Path) -> list[Path]:
    """List the folders task-00 .. task-(K-1), which must be all there are."""
    if not root.is_dir():
        old = replaced_by(root)
        collect = "collect it with `mbml fit -c conf/sac.yaml`, or give the folder of another with --data.store"
        remedy = f"an overwriting was killed: mv {old} {root}" if old.exists() else collect
        raise StoreError(f"{root}: there is no store; {remedy}")
    found = {path for path in root.iterdir() if path.name.startswith("task-")}
    folders = [task_folder(root, index) for index in range(max(len(found), 1))]
    if odd := sorted(found ^ set(folders)):
        raise StoreError(f"{odd[0]}: is missing, or one too many of {len(found)} tasks; {RESTORE}")
    return folders


def _read_metas(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Read the meta of every task; refuse one that is damaged, or not of the same store as the first."""
    metas: list[dict[str, Any]] = []
    for index, folder in enumerate(folders):
        path = folder / META
        metas.append(meta := read_sealed_json(path, SCHEMA, StoreError, RESTORE))
        if odd := [key for key, kind in (SHARED | OWN).items() if type(meta.get(key)) is not kind]:
            raise StoreError(f"{path}: {odd[0]} is missing or of another type; {RESTORE}")
        expected = {key: metas[0][key] for key in SHARED} | {"task_count": len(folders), "task_index": index}
        if odd := [key for key, value in expected.items() if meta[key] != value]:
            differs = f"{odd[0]} is {meta[odd[0]]!r}, not {expected[odd[0]]!r} as in these {len(folders)} folders"
            raise StoreError(f"{path}: {differs}; {RESTORE}")
        if meta["fields"].keys() != metas[0]["fields"].keys():
            raise StoreError(f"{path}: fields are not those of {folders[0].name}; {RESTORE}")
    return metas


def _read_task(folder: Path, meta: Mapping[str, Any], sizes: dict[str, int], verify: bool) -> TaskRecord:
    """Map and check the fields of one task; their names are ours, never the file's."""
    fields: dict[str, np.ndarray] = {}
    for name in fields_of(meta["fields"]):
        path = folder / f"{name}.npy"
        with naming(path, StoreError, f"it is no whole NumPy file of plain numbers: {RESTORE}"):
            fields[name] = np.lib.format.open_memmap(path, mode="r")  # no pickles, and no archives as in `np.load`
    check_shapes(folder, fields, sizes)
    if meta["count"] != sizes["N"] or meta["fields"].keys() != fields.keys():
        raise StoreError(f"{folder / META}: count or fields are not those of the files; {RESTORE}")
    for name, array in fields.items():
        path, stated = folder / f"{name}.npy", meta["fields"][name]
        seen: dict[str, object] = {"shape": list(array.shape), "dtype": str(array.dtype)}
        if verify:
            with naming(path, StoreError, RESTORE), open(path, "rb") as file:
                seen["sha256"] = hashlib.file_digest(file, "sha256").hexdigest()
        if odd := [key for key, value in seen.items() if not isinstance(stated, dict) or stated.get(key) != value]:
            raise StoreError(f"{path}: {odd[0]} of {name} is not that in {META}; {RESTORE}")
    check_values(folder, fields)
    return TaskRecord(meta["task_index"], meta["task"], fields, meta["task_collector"])
