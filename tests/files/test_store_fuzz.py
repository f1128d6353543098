"""Whatever is done to the files of a store: it is refused in one line that names its place, or read as it was written.

Whoever may change the files may recompute their hashes too. What then is read must be what the files and metas say.
"""

import contextlib
import datetime
import hashlib
import io
import json
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mbml_lightning.errors import StoreError
from mbml_lightning.files.store import FIELDS, META, OPTIONAL, Store, TaskRecord, read_store
from mbml_lightning.files.store_writing import write_store
from mbml_lightning.files.writing import hash_json

K, N, S, A, O = 2, 6, 3, 2, 4  # noqa: E741
SIZES = {"N": N, "S": S, "A": A, "O": O}
Draw = Callable[[st.SearchStrategy], Any]


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


def values(name: str, index: int) -> np.ndarray:
    """Those of one field in the store that is changed."""
    dtype, axes = (FIELDS | OPTIONAL)[name]
    draw = np.random.default_rng([index, *name.encode()])
    return draw.normal(size=[SIZES[axis] for axis in axes]).astype(dtype)


def write(root: Path, names: dict) -> Path:
    fields = [{name: values(name, index) for name in names} for index in range(K)]
    records = [TaskRecord(i, [0.5 * i, [i, -1.5e-7]], fields[i], {"return": 10.5 * i}) for i in range(K)]
    collector = {"text": "SAC, 6 steps", "versions": {"numpy": "2"}, "seed": 0}
    write_store(root, records, env_id="mbml/AntDir-v0", distribution="AntDir", split="train", collector=collector)
    return root


@pytest.fixture(scope="module", params=[FIELDS, FIELDS | OPTIONAL], ids=["plain", "outcomes"])
def whole(request, tmp_path_factory) -> Path:
    return write(tmp_path_factory.mktemp("fuzz") / "store", request.param)


# What may happen to files.


def files(root: Path) -> list[Path]:
    """Those of its own: no link is ever followed, so that nothing outside can be read or written."""
    return sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())


def metas(root: Path) -> list[Path]:
    return [path for path in files(root) if path.name == META]


def change_bytes(draw: Draw, root: Path) -> None:
    path = draw(st.sampled_from(files(root)))
    content = bytearray(path.read_bytes())
    start = len(content) - draw(st.integers(0, len(content)))  # simplest at the end, where the numbers are
    if draw(st.booleans()) and start < len(content):
        content[start] ^= 1 << draw(st.integers(0, 7))
    else:  # any bytes in the place of any others: truncation, extension and insertion too
        content[start : draw(st.integers(start, len(content)))] = draw(st.binary(max_size=40))
    path.write_bytes(content)


def swap(draw: Draw, root: Path) -> None:
    one, other = (draw(st.sampled_from(files(root))) for _ in range(2))
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)


ODD_NAMES = ["task-1", "task-01\n", "task-\x1b[2J", "task-0\u2028", "task-0\u0661", "task-00/task-01", "other"]


def rename(draw: Draw, root: Path) -> None:
    """Move or copy a folder to a name that is free."""
    folder = draw(st.sampled_from(sorted({path.parent for path in files(root)})))
    target = root / draw(st.sampled_from(["task-00", "task-01", "task-02", *ODD_NAMES]))
    if os.path.lexists(target) or not target.parent.is_dir() or folder in target.parents:
        return
    if draw(st.booleans()):
        folder.rename(target)
    else:
        target.mkdir()
        for path in set(files(root)) & set(folder.iterdir()):
            shutil.copyfile(path, target / path.name)


def replace(draw: Draw, root: Path) -> None:
    """By nothing, a folder, or a link to itself, another folder or nowhere."""
    path = draw(st.sampled_from([*files(root), *sorted(root.iterdir())]))
    path.rename(root.parent / f"away-{len(list(root.parent.iterdir()))}")
    kinds = [lambda: None, path.mkdir]
    kinds += [lambda to=to: path.symlink_to(to) for to in (path, root.parent, "nowhere")]
    draw(st.sampled_from(kinds))()


def npy(array: np.ndarray, version: tuple[int, int] | None = None) -> bytes:
    file = io.BytesIO()
    np.lib.format.write_array(file, array, version)
    return file.getvalue()


def npz(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.savez(file, array)
    return file.getvalue()


def forms(like: np.ndarray) -> Iterator[bytes]:
    """The same numbers in other forms."""
    yield from (npy(like, version) for version in [(1, 0), (2, 0), (3, 0)])
    yield from (npy(like.astype(dtype)) for dtype in ("f8", ">f4", "f2", "c8", "i4", "U3", "m8[s]", "V4", object))
    yield from (npy(other) for other in (np.asfortranarray(like), like.T, like[:0], like[0], like[:-1], like[None]))
    yield npz(like)


def numbers(like: np.ndarray) -> Iterator[bytes]:
    """Other numbers in the same form."""
    yield from (npy(np.full_like(like, value)) for value in (0, 1, np.nan, np.inf))
    yield npy(np.full(like.shape, 2, np.uint8).view(np.bool_))


def strangers(like: np.ndarray, mark: Path) -> Iterator[bytes]:
    """What is no array of numbers."""
    yield from (save(np.full(like.shape, Bomb(mark))) for save in (npy, npz))
    yield npy(np.zeros(like.shape, [("a\nb", "f4")]))
    for shape in (f"({2**63 - 1}, 8)", "(-1,)", "(True,)", "6", "()", "(" * 300 + ")" * 300):
        yield headed("'<f4'", shape) + like.tobytes()
    for descr in ("('<f4', (2,))", "'|O'", "[('x', '<f4'), ('x', '<f4')]", "'<f4,(9,9)i8'", r"'\d'", "''", "'<f0'"):
        yield headed(descr, str(like.shape)) + like.tobytes()


def headed(descr: str, shape: str) -> bytes:
    header = f"{{'descr': {descr}, 'fortran_order': True, 'shape': {shape}}}\n".encode()
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def replace_array(draw: Draw, root: Path) -> None:
    path = draw(st.sampled_from([path for path in files(root) if path.suffix == ".npy"]))
    like = values(path.stem, 0) if path.stem in FIELDS | OPTIONAL else np.zeros(N)
    kinds = [forms(like), numbers(like), strangers(like, root.parent / "mark")]
    path.write_bytes(draw(st.sampled_from(list(draw(st.sampled_from(kinds))))))


# What may happen to a meta.

DEEP = "the deep one"
ODD = [None, True, 0, -1, 2, 1.0, 1e308, math.nan, -math.inf, "", "../../x", "/etc/passwd", "a\nb"]
ODD += ["\ud800", "\u2028", "\x1b[2J", "x" * 10_000, DEEP, [], {}, [[]], {"": 0}, [[1.5]] * 50]


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Every container in plain data, with each of its keys."""
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
        yield value, key
        if isinstance(inner, dict | list):
            yield from places(inner)


def change_meta(draw: Draw, root: Path) -> None:
    path = draw(st.sampled_from(metas(root)))
    if not (meta := read_meta(path)):
        return change_bytes(draw, root)
    for _ in range(draw(st.integers(0, 2))):
        part = draw(st.sampled_from(sorted(meta)))
        inner = list(places(meta[part])) if isinstance(meta[part], dict | list) else []
        container, key = draw(st.sampled_from([(meta, part), *inner]))
        odd = deepcopy(draw(st.sampled_from([*ODD, [container[key]], str(container[key])])))  # it may be changed, too
        if isinstance(container, dict) and draw(st.booleans()):
            container[draw(st.sampled_from(["x", "", "../../x", "outcomes", "sha256", "\n"]))] = odd
        elif draw(st.booleans()):
            del container[key]
        else:
            container[key] = odd
        if not meta:
            break
    depth = draw(st.sampled_from([3, 200, 900, 100_000]))
    text = json.dumps(meta, indent=draw(st.sampled_from([None, 0, 7])))
    text = text.replace(json.dumps(DEEP), "[" * depth + "]" * depth)
    if draw(st.booleans()):
        text = '{"schema": 1, "count": -1, ' + text[1:]  # a key twice: the last one counts
    path.write_bytes(text.encode(draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-be", "cp037"]))))


def read_meta(path: Path) -> dict:
    try:
        meta = json.loads(path.read_bytes())
    except (ValueError, OSError, RecursionError):
        return {}
    return meta if isinstance(meta, dict) else {}


def seal(root: Path, restate: bool) -> None:
    """Give every meta the hash that it has now, and maybe what the files are now: somebody wants to be believed."""
    for path in metas(root):
        meta = read_meta(path)
        stated = meta.get("fields")
        for name in FIELDS | OPTIONAL if restate and isinstance(stated, dict) else ():
            file = path.with_name(f"{name}.npy")
            if file.is_file() and not file.is_symlink():
                stated[name] = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()} | form(file)
        with contextlib.suppress(ValueError, RecursionError):  # of what has no hash
            path.write_text(json.dumps(meta | {"sha256": hash_json(meta)}))


def form(file: Path) -> dict:
    try:
        array = np.load(file, allow_pickle=False)
        return {"shape": list(array.shape), "dtype": str(array.dtype)}
    except Exception:
        return {}


# What must then hold.


def assert_same_data(store: Store, other: Store) -> None:
    """Of the same tasks, whoever collected them."""
    for one, two in zip(store.tasks, other.tasks, strict=True):
        assert (one.task_index, one.task, one.fields.keys()) == (two.task_index, two.task, two.fields.keys())
        for name in one.fields:
            np.testing.assert_array_equal(one.fields[name], two.fields[name], strict=True)
    assert {**store.meta, "collector": None} == {**other.meta, "collector": None}


def assert_as_stated(store: Store) -> None:
    """Every array is what its own file holds, finite, and as its meta says; sizes agree."""
    names, sizes = FIELDS | OPTIONAL, {"K": store.meta["task_count"], "N": store.meta["count"]}
    sizes |= {"S": store.meta["observation_dim"], "A": store.meta["action_dim"]}
    assert [task.task_index for task in store.tasks] == list(range(sizes["K"]))
    for task in store.tasks:
        folder = store.root / f"task-{task.task_index:02d}"
        meta = read_meta(folder / META)
        assert (meta["task"], meta["task_collector"], meta["count"]) == (task.task, task.collector, sizes["N"])
        assert FIELDS.keys() <= task.fields.keys() == meta["fields"].keys()
        for name, array in task.fields.items():
            plain = np.load(folder / f"{name}.npy", allow_pickle=False)
            np.testing.assert_array_equal(array, plain, strict=True)
            assert array.dtype == names[name][0] and np.isfinite(plain).all()
            assert array.shape == tuple(sizes.setdefault(axis, plain.shape[-1]) for axis in names[name][1])
            digest = hashlib.sha256((folder / f"{name}.npy").read_bytes()).hexdigest()
            stated = meta["fields"][name]
            assert (stated["shape"], stated["dtype"], stated["sha256"]) == (list(array.shape), str(array.dtype), digest)


MUTATIONS = [change_bytes, swap, rename, replace, replace_array, change_meta]
FORGED = {"nothing": None, "metas": False, "metas and what they say of files": True}


def holds_whatever_was_done(data: st.DataObject, whole: Path, first: Callable) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = shutil.copytree(whole, Path(folder, "store"))
        further = data.draw(st.just([]) | st.lists(st.sampled_from(MUTATIONS), max_size=2))
        for mutate in [first, *further]:
            if metas(root) and len(files(root)) > len(metas(root)):
                mutate(data.draw, root)
        if (restate := FORGED[data.draw(st.sampled_from(list(FORGED)))]) is not None:
            seal(root, restate)
        try:
            store = read_store(root)
        except StoreError as error:
            message = str(error)
            assert message.startswith(str(root)) and ";" in message
            assert message.isprintable() and len(message) < 2000, "one line that a terminal can show"
        else:
            assert_as_stated(store)
            original = read_store(whole)
            if restate is None:
                assert (store.meta["collector"], store.digest) == (original.meta["collector"], original.digest)
                assert [task.collector for task in store.tasks] == [task.collector for task in original.tasks]
            if store.digest == original.digest:
                assert_same_data(store, original)
        assert not Path(folder, "mark").exists(), "something was unpickled"


quickly = {"deadline": datetime.timedelta(seconds=20), "suppress_health_check": [HealthCheck.too_slow]}
each = pytest.mark.parametrize("first", MUTATIONS, ids=lambda mutate: mutate.__name__)


@each
@settings(max_examples=20, **quickly)
@given(data=st.data())
def test_a_changed_store_is_refused_by_name_or_read_as_its_files_say(whole: Path, first, data) -> None:
    holds_whatever_was_done(data, whole, first)


@pytest.mark.fuzz
@each
@settings(max_examples=170, **quickly)
@given(data=st.data())
def test_a_thousand_changed_stores(whole: Path, first, data) -> None:
    holds_whatever_was_done(data, whole, first)


def test_a_bomb_would_go_off(tmp_path: Path) -> None:
    path = tmp_path / "rewards.npy"
    path.write_bytes(npy(np.full(N, Bomb(tmp_path / "mark"))))
    np.load(path, allow_pickle=True)
    assert (tmp_path / "mark").exists()
