"""The store gives back what was written, and refuses everything else by name."""

import contextlib
import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbml_lightning.errors import StoreError
from mbml_lightning.files import store_writing as module
from mbml_lightning.files.store import FIELDS, META, OWN, ROWS, SHARED, Store, TaskRecord, read_store
from mbml_lightning.files.store_writing import write_store
from mbml_lightning.files.writing import hash_json

K, N, S, A = 3, 40, 5, 2
SOURCE = {"env_id": "mbml/AntDir-v0", "distribution": "AntDir", "split": "train"}
COLLECTOR = {"text": "SAC, 40 steps", "versions": {"numpy": "2.4.6"}, "seed": 0}


def record(index: int, count: int = N, seed: int = 0) -> TaskRecord:
    draw = np.random.default_rng([seed, index])
    sizes = {"N": count, "S": S, "A": A}
    fields = {}
    for name, (dtype, axes) in FIELDS.items():
        values = draw.normal(size=[sizes[axis] for axis in axes])
        fields[name] = values > 1 if dtype == "bool" else values.astype(np.float32)
    return TaskRecord(index, [0.1 + index, [index, -1.5e-7]], fields, {"return": 10.5 * index})


def write(root: Path, records: list[TaskRecord] | None = None, **options) -> Path:
    given = {**SOURCE, "collector": COLLECTOR, **options}
    write_store(root, [record(index) for index in range(K)] if records is None else records, **given)
    return root


def assert_holds(store: Store, records: list[TaskRecord]) -> None:
    assert len(store.tasks) == len(records)
    for read, wrote in zip(store.tasks, records, strict=True):
        assert (read.task_index, read.task, read.collector) == (wrote.task_index, wrote.task, wrote.collector)
        assert list(read.fields) == list(FIELDS)
        for name, array in wrote.fields.items():
            assert read.fields[name].dtype == array.dtype
            np.testing.assert_array_equal(read.fields[name], array, strict=True)


def assert_refused(root: Path, *words: str, **options) -> StoreError:
    """Reading fails in one line that holds the words."""
    with pytest.raises(StoreError) as caught:
        read_store(root, **options)
    assert_line(caught.value, *words)
    return caught.value


def assert_line(error: StoreError, *words: str) -> None:
    message = str(error)
    assert "\n" not in message
    assert ";" in message, "no remedy"
    assert all(word in message for word in words), message


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "store")


def edit_meta(root: Path, index: int = 1, *, seal: bool = True, **changes: object) -> None:
    """Changes a meta as somebody would who knows its hash (or not)."""
    path = root / f"task-{index:02d}" / META
    meta = json.loads(path.read_text()) | changes
    if seal:
        meta["sha256"] = hash_json(meta)
    path.write_text(json.dumps(meta))


# What was written comes back.


@pytest.mark.parametrize("verify", [True, False])
def test_round_trip(root: Path, verify: bool) -> None:
    store = read_store(root, distribution="AntDir", observation_dim=S, action_dim=A, verify=verify)
    assert_holds(store, [record(index) for index in range(K)])
    sizes = {"task_count": K, "count": N, "observation_dim": S, "action_dim": A}
    assert store.meta == {"schema": 1, "collector": COLLECTOR, **SOURCE, **sizes}
    assert not any(path.name.startswith(".") for path in root.parent.iterdir())


def test_fields_are_read_only_maps(root: Path) -> None:
    array = read_store(root).tasks[0].fields["observations"]
    assert isinstance(array, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1.0


def test_records_may_come_in_any_order_and_layout(tmp_path: Path) -> None:
    records = [record(index) for index in range(K)]
    columns = {name: np.asfortranarray(array)[::1] for name, array in records[1].fields.items()}
    strided = {name: np.repeat(array, 2, axis=0)[::2] for name, array in records[2].fields.items()}
    given = [TaskRecord(2, records[2].task, strided, records[2].collector), records[0]]
    write(tmp_path / "store", [*given, TaskRecord(1, records[1].task, columns, records[1].collector)])
    assert_holds(read_store(tmp_path / "store"), records)


def test_more_than_a_hundred_tasks(tmp_path: Path) -> None:
    records = [record(index, count=1) for index in range(101)]
    assert_holds(read_store(write(tmp_path / "store", records)), records)


def test_files_are_numpys_and_hashed_whole(root: Path) -> None:
    folder = root / "task-01"
    entries = json.loads((folder / META).read_text())["fields"]
    for name, array in record(1).fields.items():
        np.testing.assert_array_equal(np.load(folder / f"{name}.npy", allow_pickle=False), array, strict=True)
        assert hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest() == entries[name]["sha256"]


def test_digest_is_that_of_the_content(tmp_path: Path) -> None:
    written = [record(index) for index in range(K)]
    paths = [write(tmp_path / "a"), write(tmp_path / "b"), write(tmp_path / "f", collector={**COLLECTOR, "seed": 1})]
    same = {read_store(path).digest for path in paths}
    other_data = write(tmp_path / "c", [*written[:2], record(2, seed=1)])
    other_meta = write(tmp_path / "d", split="test")
    other_order = write(tmp_path / "e", [TaskRecord(K - 1 - r.task_index, r.task, r.fields) for r in written])
    digests = same | {read_store(path).digest for path in (other_data, other_meta, other_order)}
    assert len(same) == 1
    assert len(digests) == 4
    assert all(len(digest) == 64 for digest in digests)


def test_a_link_to_a_store_is_followed_in_both_directions(root: Path) -> None:
    link = root.with_name("link")
    link.symlink_to(root)
    new = [record(index, seed=1) for index in range(K)]
    write(link, new, overwrite=True)
    assert link.is_symlink()
    assert_holds(read_store(root), new)
    assert_holds(read_store(link), new)


def test_a_store_may_replace_the_one_it_was_read_from(root: Path) -> None:
    tasks = read_store(root).tasks
    write(root, tasks[:2], overwrite=True)
    assert_holds(read_store(root), [record(0), record(1)])


# What must not be written.


def spoilt(name: str, change: Callable[[np.ndarray], np.ndarray]) -> TaskRecord:
    good = record(1)
    return TaskRecord(1, good.task, {**good.fields, name: change(good.fields[name])})


def with_value(value: float, row: int = 7) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = array.copy()
        array[row] = value
        return array

    return change


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (spoilt("rewards", lambda a: a.astype(np.float64)), ("task-01/rewards.npy", "float64", "not float32")),
        (spoilt("rewards", lambda a: a.astype(object)), ("task-01/rewards.npy", "object")),
        (spoilt("terminations", lambda a: a.astype(np.float32)), ("task-01/terminations.npy", "not bool")),
        (spoilt("rewards", lambda a: a[:, None]), ("task-01/rewards.npy", "(40, 1)", "(N=40)")),
        (spoilt("actions", lambda a: a[:-1]), ("task-01/actions.npy", "(39, 2)", "N=40")),
        (spoilt("next_observations", lambda a: a[:, 1:]), ("task-01/next_observations.npy", "(40, 4)", "S=5")),
        (spoilt("actions", lambda a: a[:, :0]), ("task-01/actions.npy", "(40, 0)")),
        (spoilt("actions", with_value(np.nan)), ("task-01/actions.npy", "row 7")),
        (spoilt("observations", with_value(-np.inf, 39)), ("task-01/observations.npy", "row 39")),
        (record(1, count=N - 1), ("task-01/observations.npy", "(39, 5)", "N=40", "tasks must agree")),
        (record(2), ("task_index", "[0, 2]")),
        (record(0), ("task_index", "[0, 0]")),
        (TaskRecord(1, [float("nan")], record(1).fields), ("task-01", "finite numbers")),
        (TaskRecord(1, [(1.0, 2.0)], record(1).fields), ("task-01", "lists")),
        (TaskRecord(1, [np.float32(1)], record(1).fields), ("task-01", "float32")),
        (TaskRecord(1, [1.0], {**record(1).fields, "infos": np.ones(N)}), ("task-01", "infos")),
        (TaskRecord(1, [1.0], {"rewards": np.ones(N, np.float32)}), ("task-01", "missing")),
    ],
)
def test_bad_records_are_refused_before_anything_is_written(tmp_path: Path, bad: TaskRecord, words) -> None:
    with pytest.raises(StoreError) as caught:
        write(tmp_path / "store", [record(0), bad])
    assert_line(caught.value, *words)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("collector", [{"path": Path("x")}, {"x": {1: "a"}}, {"x": float("inf")}, {"x": (1, 2)}])
def test_a_collector_that_is_not_plain_is_refused(tmp_path: Path, collector: dict) -> None:
    with pytest.raises(StoreError, match="collector"):
        write(tmp_path / "store", collector=collector)
    assert not list(tmp_path.iterdir())


def test_no_records_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="task_index"):
        write(tmp_path / "store", [])


def test_an_existing_store_is_replaced_only_when_asked(root: Path) -> None:
    new = [record(index, seed=1) for index in range(K)]
    with pytest.raises(StoreError, match=r"exists; .*overwrite"):
        write(root, new)
    assert_holds(read_store(root), [record(index) for index in range(K)])
    write(root, new, overwrite=True)
    assert_holds(read_store(root), new)
    assert list(root.parent.iterdir()) == [root]


def test_what_is_no_store_is_never_replaced(root: Path) -> None:
    (root / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"notes\.txt.*move it away"):
        write(root, overwrite=True)
    file = root.with_name("file")
    file.write_text("mine")
    with pytest.raises(StoreError, match=r"file: cannot be replaced \(Not a directory"):
        write(file, overwrite=True)
    assert (root / "notes.txt").read_text() == file.read_text() == "mine"


# A write that fails, or is killed, changes nothing.


@contextlib.contextmanager
def failing(name: str, at: int, error: BaseException) -> Iterator[None]:
    """Lets the ``at``-th call of an operating system function fail."""
    calls = iter(range(10_000))
    real = getattr(os, name)

    def fail(*arguments: object, **options: object) -> object:
        if next(calls) == at:
            raise error
        return real(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, name, fail)
        yield


@contextlib.contextmanager
def full_disk(at: int) -> Iterator[None]:
    """Gives the ``at``-th file that is written no room: the kernel itself says ENOSPC."""
    calls = iter(range(10_000))

    def on_full_disk(path: Path, mode: str):
        return open("/dev/full" if next(calls) == at else path, mode)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "open", on_full_disk, raising=False)
        yield


def faults() -> list:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    syncs = K * (len(FIELDS) + 1)  # fields and metas
    return [
        *(pytest.param(lambda at=at: full_disk(at), id=f"file-{at}") for at in (0, 3, 6, 7, 20)),
        *(pytest.param(lambda at=at: failing("fsync", at, full), id=f"sync-{at}") for at in (0, 9, syncs - 1)),
        *(pytest.param(lambda at=at: failing("mkdir", at, full), id=f"mkdir-{at}") for at in (0, 3)),
    ]


@pytest.mark.parametrize("fault", faults())
@pytest.mark.parametrize("overwrite", [False, True])
def test_a_full_disk_changes_nothing(tmp_path: Path, fault, overwrite: bool) -> None:
    root = tmp_path / "store"
    if overwrite:
        write(root)
    with fault(), pytest.raises(StoreError) as caught:
        write(root, [record(index, seed=1) for index in range(K)], overwrite=overwrite)
    assert_line(caught.value, str(tmp_path), "No space left", "free disk space")
    assert list(tmp_path.iterdir()) == [root] * overwrite
    if overwrite:
        assert_holds(read_store(root), [record(index) for index in range(K)])


def test_a_full_disk_is_told_by_the_file_and_does_not_last(tmp_path: Path) -> None:
    with full_disk(9), pytest.raises(StoreError, match=r"task-01/rewards\.npy: cannot be written \(No space left"):
        write(tmp_path / "store")
    assert_holds(read_store(write(tmp_path / "store")), [record(index) for index in range(K)])


@pytest.mark.parametrize("at", [0, 1])
def test_a_failed_rename_gives_the_old_store_back(root: Path, at: int) -> None:
    with failing("rename", at, PermissionError(errno.EPERM, "not permitted")), pytest.raises(StoreError, match="as it"):
        write(root, [record(0, seed=1)], overwrite=True)
    assert_holds(read_store(root), [record(index) for index in range(K)])
    assert list(root.parent.iterdir()) == [root]


@pytest.mark.parametrize("name", ["fsync", "rename"])
@pytest.mark.parametrize("error", [KeyboardInterrupt(), MemoryError("no memory")])
def test_any_exception_cleans_up(root: Path, name: str, error: BaseException) -> None:
    expected = StoreError if isinstance(error, Exception) else KeyboardInterrupt
    with failing(name, 1, error), pytest.raises(expected):
        write(root, [record(0, seed=1)], overwrite=True)
    assert_holds(read_store(root), [record(index) for index in range(K)])
    assert list(root.parent.iterdir()) == [root]


def test_a_store_that_appears_meanwhile_is_kept(tmp_path: Path) -> None:
    root, theirs = tmp_path / "store", write(tmp_path / "theirs")
    with pytest.MonkeyPatch.context() as patch:
        swap = module._swap
        patch.setattr(module, "_swap", lambda *given: (shutil.copytree(theirs, root), swap(*given)))
        with pytest.raises(StoreError):
            write(root, [record(0, seed=1)])
    assert_holds(read_store(root), [record(index) for index in range(K)])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "theirs"]


KILLED = """
import os, sys
from pathlib import Path
import numpy as np
from mbml_lightning.files.store import FIELDS, TaskRecord
from mbml_lightning.files.store_writing import write_store

name, at, root = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
real, calls = getattr(os, name), iter(range(10_000))
setattr(os, name, lambda *given: os._exit(9) if next(calls) == at else real(*given))
fields = {name: np.zeros([2] * len(axes), dtype) for name, (dtype, axes) in FIELDS.items()}
records = [TaskRecord(index, [0.5], fields) for index in range(3)]
write_store(root, records, env_id="e", distribution="d", split="s", collector={"text": "t"}, overwrite=True)
"""


def kill(root: Path, name: str, at: int) -> None:
    command = [sys.executable, "-c", KILLED, name, str(at), str(root)]
    package = Path(module.__file__).parents[2]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(package)}, check=False).returncode == 9


@pytest.mark.parametrize(("name", "at"), [("fsync", 0), ("fsync", 10), ("fsync", 20), ("rename", 0)])
def test_a_killed_write_is_no_store(tmp_path: Path, name: str, at: int) -> None:
    root = tmp_path / "store"
    kill(root, name, at)
    assert [path.name for path in tmp_path.iterdir() if path.name == ".store.partial"], "it was not killed midway"
    assert_refused(root, "there is no store")
    assert_holds(read_store(write(root)), [record(index) for index in range(K)])


def test_a_killed_overwrite_keeps_the_old_store(root: Path) -> None:
    kill(root, "fsync", 10)
    assert_holds(read_store(root), [record(index) for index in range(K)])
    kill(root, "rename", 1)  # the old one is away, the new one not yet there
    remedy = str(assert_refused(root, "there is no store", "mv ")).partition("mv ")[2].split()
    Path(remedy[0]).rename(remedy[1])
    assert_holds(read_store(root), [record(index) for index in range(K)])


def test_leftovers_of_a_killed_write_are_cleaned(tmp_path: Path) -> None:
    leftover = tmp_path / ".store.partial" / "task-00"
    leftover.mkdir(parents=True)
    (leftover / "rewards.npy").write_bytes(b"half")
    write(tmp_path / "store")
    assert [path.name for path in tmp_path.iterdir()] == ["store"]


# What must not be read.


def test_a_missing_store_is_refused(tmp_path: Path) -> None:
    assert_refused(tmp_path / "nowhere", "nowhere", "there is no store", "collect it")
    assert_refused(tmp_path, "task-00: is missing")


@pytest.mark.parametrize("name", [*(f"{name}.npy" for name in FIELDS), META])
def test_a_missing_file_is_refused(root: Path, name: str) -> None:
    (root / "task-01" / name).unlink()
    assert_refused(root, f"task-01/{name}: cannot be read (No such file or directory)")


@pytest.mark.parametrize("name", ["rewards.npy", META])
def test_a_folder_in_the_place_of_a_file_is_refused(root: Path, name: str) -> None:
    path = root / "task-01" / name
    path.unlink()
    path.mkdir()
    assert_refused(root, f"task-01/{name}: cannot be read (Is a directory)")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", ("JSONDecodeError",)),
        (b'{"schema": 1', ("JSONDecodeError",)),
        (b'{"\xff": 1}', ("UnicodeDecodeError",)),
        (b"[" * 200_000, ("RecursionError",)),
        (b"[]", ("schema is None, but this version reads 1 only",)),
        (b'{"name": "something else"}', ("schema is None",)),
        (b'{"schema": 2}', ("schema is 2, but this version reads 1 only",)),
        (b'{"schema": 1}', ("not that of its SHA-256",)),
    ],
)
def test_a_broken_or_foreign_meta_is_refused(root: Path, content: bytes, words) -> None:
    (root / "task-01" / META).write_bytes(content)
    assert_refused(root, f"task-01/{META}", *words)


@pytest.mark.parametrize("key", [*SHARED, *OWN])
def test_a_meta_without_a_key_or_with_another_type_is_refused(root: Path, key: str) -> None:
    edit_meta(root, seal=key != "sha256", **{key: None})
    assert_refused(root, f"task-01/{META}", {"sha256": "SHA-256"}.get(key, key))


def test_a_meta_that_was_edited_is_refused(root: Path) -> None:
    edit_meta(root, seal=False, collector={**COLLECTOR, "seed": 1})
    assert_refused(root, f"task-01/{META}", "SHA-256: it was damaged or changed", verify=False)


def test_infinite_task_parameters_are_refused(root: Path) -> None:
    path = root / "task-01" / META
    path.write_text(path.read_text().replace("1.1", "1e999"))
    assert_refused(root, f"task-01/{META}", "Out of range float")


@pytest.mark.parametrize(
    "changes", [{"count": N - 1}, {"fields": {}}, {"fields": {"../../task-00/rewards": {}}}, {"fields": {"/etc": {}}}]
)
def test_a_meta_that_states_other_files_is_refused(root: Path, changes: dict) -> None:
    edit_meta(root, **changes)
    assert_refused(root, f"task-01/{META}", "fields are not those of")


@pytest.mark.parametrize("key", ["shape", "dtype", "sha256"])
def test_a_field_that_is_not_as_stated_is_refused(root: Path, key: str) -> None:
    fields = json.loads((root / "task-01" / META).read_text())["fields"]
    fields["actions"][key] = "0"
    edit_meta(root, fields=fields)
    assert_refused(root, "task-01/actions.npy", f"{key} of actions")
    edit_meta(root, fields={**fields, "actions": "plain"})
    assert_refused(root, "task-01/actions.npy", "of actions")


def test_verify_leaves_out_the_hashes_only(root: Path) -> None:
    path = root / "task-01" / "actions.npy"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1  # the last bit of a finite float's exponent and sign byte
    path.write_bytes(data)
    assert_refused(root, "task-01/actions.npy", "sha256 of actions")
    assert np.isfinite(read_store(root, verify=False).tasks[1].fields["actions"]).all()
    path.write_bytes(data[:-1])
    assert_refused(root, "task-01/actions.npy", "no whole NumPy file", verify=False)


@pytest.mark.parametrize("size", [0, 5, 60, 127, 128, -1])
def test_a_truncated_field_is_refused(root: Path, size: int) -> None:
    path = root / "task-02" / "rewards.npy"
    path.write_bytes(path.read_bytes()[:size])
    assert_refused(root, "task-02/rewards.npy", "no whole NumPy file", verify=False)


def test_a_field_that_grew_is_refused(root: Path) -> None:
    with open(root / "task-02" / "rewards.npy", "ab") as file:
        file.write(b"\0")
    assert_refused(root, "task-02/rewards.npy", "sha256 of rewards")


def save(path: Path, array: np.ndarray, version: tuple[int, int] = (1, 0)) -> None:
    with open(path, "wb") as file:
        np.lib.format.write_array(file, array, version=version)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros(N, np.float64), ("float64", "not float32")),
        (np.zeros(N, ">f4"), (">f4", "not float32")),
        (np.zeros((N, 1), np.float32), ("(40, 1)", "(N=40)")),
        (np.zeros(N + 1, np.float32), ("(41,)", "(N=40)")),
        (np.zeros((), np.float32), ("rewards",)),
        (np.zeros(0, np.float32), ("rewards",)),
        (np.array([None] * N, object), ("plain numbers",)),
        (np.full(N, np.nan, np.float32), ("row 0",)),
        (np.append(np.zeros(N - 1), -np.inf).astype(np.float32), ("row 39",)),
    ],
)
def test_a_field_of_another_kind_is_refused(root: Path, array: np.ndarray, words) -> None:
    fields = json.loads((root / "task-01" / META).read_text())["fields"]
    fields["rewards"] = {"shape": list(array.shape), "dtype": str(array.dtype)}  # even where the meta agrees
    edit_meta(root, fields=fields)
    save(root / "task-01" / "rewards.npy", array)
    assert_refused(root, "task-01/rewards.npy", *words, verify=False)


def test_values_are_checked_beyond_the_first_rows(tmp_path: Path) -> None:
    count = 2 * ROWS + 3
    root = write(tmp_path / "store", [record(0, count)])
    array = record(0, count).fields["actions"].copy()
    array[-1, 1] = np.nan
    save(root / "task-00" / "actions.npy", array)
    assert_refused(root, "task-00/actions.npy", f"row {count - 1}", verify=False)


def test_truth_values_are_zero_or_one(root: Path) -> None:
    save(root / "task-01" / "truncations.npy", np.full(N, 2, np.uint8).view(np.bool_))
    assert_refused(root, "task-01/truncations.npy", "row 0", verify=False)


def test_other_array_files_are_refused(root: Path) -> None:
    path = root / "task-01" / "rewards.npy"
    with open(path, "wb") as file:
        np.savez(file, rewards=np.zeros(N, np.float32))
    assert_refused(root, "task-01/rewards.npy", "no whole NumPy file", verify=False)
    path.write_bytes(
        b"\x93NUMPY\x01\x00\x46\x00{'descr': '<f4', 'fortran_order': False, 'shape': (9223372036854775807, 8)}"
    )
    assert_refused(root, "task-01/rewards.npy", "no whole NumPy file", verify=False)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"distribution": "HalfCheetahVel"}, (META, "'AntDir'", "'HalfCheetahVel'")),
        ({"observation_dim": 17}, ("observations.npy", "(40, 5)", "S=17")),
        ({"action_dim": 6}, ("actions.npy", "(40, 2)", "A=6")),
    ],
)
def test_another_store_than_asked_for_is_refused(root: Path, asked: dict, words) -> None:
    assert_refused(root, *words, **asked)


def test_a_missing_task_is_refused(root: Path) -> None:
    shutil.move(root / "task-01", root.parent / "away")
    assert_refused(root, "task-01: is missing")
    shutil.move(root.parent / "away", root / "task-01")
    shutil.rmtree(root / "task-02")  # the last one: the folders themselves show no gap
    assert_refused(root, f"task-00/{META}", "task_count is 3, not 2")


@pytest.mark.parametrize("name", ["task-03", "task-1", "task-05", "task-01-copy"])
def test_a_task_too_many_is_refused(root: Path, name: str) -> None:
    shutil.copytree(root / "task-01", root / name)
    assert_refused(root, "task-0")


def test_a_task_in_the_place_of_another_is_refused(root: Path) -> None:
    shutil.rmtree(root / "task-02")
    shutil.copytree(root / "task-01", root / "task-02")
    assert_refused(root, f"task-02/{META}", "task_index is 1, not 2")


@pytest.mark.parametrize(
    "other", [{"env_id": "x"}, {"distribution": "x"}, {"split": "ood"}, {"collector": {"text": "other"}}]
)
def test_a_task_of_another_store_is_refused(root: Path, other: dict) -> None:
    foreign = write(root.with_name("other"), **other)
    shutil.rmtree(root / "task-01")
    shutil.copytree(foreign / "task-01", root / "task-01")
    assert_refused(root, f"task-01/{META}", *other, "as in these 3 folders")


def test_differing_counts_are_refused(root: Path) -> None:
    foreign = write(root.with_name("other"), [record(index, N - 1) for index in range(K)])
    shutil.rmtree(root / "task-01")
    shutil.copytree(foreign / "task-01", root / "task-01")
    assert_refused(root, "task-01/observations.npy", "(39, 5)", "N=40", "tasks must agree")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Store]:
    root = write(tmp_path_factory.mktemp("flips") / "store", [record(index, 3) for index in range(2)])
    store = read_store(root)
    return root, sorted(path for path in root.rglob("*") if path.is_file()), store


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_a_flipped_byte_is_detected_or_changes_nothing(small: tuple[Path, list[Path], Store], data) -> None:
    root, files, whole = small
    path = data.draw(st.sampled_from(files))
    content = path.read_bytes()
    place = data.draw(st.integers(0, len(content) - 1))
    verify = data.draw(st.booleans()) or path.name != META
    flipped = content[place] ^ data.draw(st.integers(1, 255))
    try:
        path.write_bytes(content[:place] + bytes([flipped]) + content[place + 1 :])
        with contextlib.suppress(StoreError):
            store = read_store(root, verify=verify)
            assert (store.meta, store.digest) == (whole.meta, whole.digest)
            assert_holds(store, [record(index, 3) for index in range(2)])
            assert path.name == META, "a flip in a field must be detected"
    finally:
        path.write_bytes(content)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_broken_header_raises_nothing_but_a_store_error(small: tuple[Path, list[Path], Store], data) -> None:
    root, files, _ = small
    path = data.draw(st.sampled_from([path for path in files if path.name != META]))
    content = path.read_bytes()
    header = bytearray(content[:128])
    for place, byte in data.draw(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 255)), min_size=1, max_size=6)):
        header[place] = byte
    try:
        path.write_bytes(header + content[128:])
        with contextlib.suppress(StoreError):
            read_store(root, verify=False)
    finally:
        path.write_bytes(content)
