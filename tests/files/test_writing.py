"""Files are written whole or not at all, and hashes notice every change."""

import json
from collections import OrderedDict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mbml_lightning.errors import CheckpointError, ResultsError
from mbml_lightning.files.checkpoints import hash_tensors
from mbml_lightning.files.writing import (
    hash_json,
    read_arrays,
    read_sealed_json,
    replacing,
    write_arrays,
    write_text,
)


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ZeroDivisionError("no"), OSError(28, "No space left")])
@pytest.mark.parametrize("before", [None, "old"])
def test_a_failed_write_leaves_the_earlier_file_and_nothing_else(tmp_path, failure, before):
    path = tmp_path / "run/file.txt"
    if before:
        write_text(path, before)
    expected = ResultsError if isinstance(failure, Exception) else KeyboardInterrupt
    with pytest.raises(expected), replacing(path) as file:
        file.write(b"half")
        raise failure
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"] * bool(before)
    assert not before or path.read_text() == before


def test_the_new_file_is_not_seen_before_it_is_whole(tmp_path):
    path = tmp_path / "file.txt"
    write_text(path, "old")
    with replacing(path) as file:
        file.write(b"new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_the_error_is_that_of_the_kind_of_file_and_names_reason_and_remedy(tmp_path):
    (tmp_path / "file").write_text("in the way")
    line = r"file/last\.ckpt: cannot be written \(File exists\); wait; an earlier file is kept"
    with pytest.raises(CheckpointError, match=line), replacing(tmp_path / "file/last.ckpt", CheckpointError, "wait"):
        pass


def test_a_failed_write_that_torch_reports_names_its_cause(tmp_path):
    with pytest.raises(ResultsError, match=r"cannot be written \(No space left\)"), replacing(tmp_path / "file"):
        try:
            raise OSError(28, "No space left")
        except OSError:
            raise RuntimeError("unexpected pos 64 vs 0")  # noqa: B904


def test_arrays_come_back_and_objects_are_refused(tmp_path):
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b": np.zeros(0, np.int8)}
    write_arrays(tmp_path / "file.npz", arrays)
    read = read_arrays(tmp_path / "file.npz")
    assert read.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(read[name], array, strict=True)
    np.savez(tmp_path / "objects.npz", a=np.array([{}]))
    with pytest.raises(ResultsError, match=r"objects\.npz: cannot be read"):
        read_arrays(tmp_path / "objects.npz")
    with pytest.raises(ResultsError, match=r"none\.npz: cannot be read \(No such file or directory\)"):
        read_arrays(tmp_path / "none.npz")


CONTENT = {
    "a": torch.arange(6.0).reshape(2, 3),
    "b": [1, "x", None, True, (torch.tensor([1, 2]),)],
    "c": OrderedDict(d=0.5),
}


def test_hashes_are_those_of_earlier_versions():
    """Checkpoints, stores and evaluations that are already on disks hold them."""
    assert hash_tensors(CONTENT) == "b490fc8ae4a1ede003811b6de44597321303402e916ada6f4534bebcc755fd4b"
    found = hash_json({"b": [1.5, {"x": None}], "a": "\u00e4", "sha256": "left out"})
    assert found == "aea9d1ad67555f36243e00bb820443102924692c91b7b9680f6519cffe4a8bda"


@pytest.mark.parametrize(
    "other",
    [
        CONTENT | {"a": torch.arange(6.0).reshape(3, 2)},
        CONTENT | {"a": torch.arange(6).reshape(2, 3)},
        CONTENT | {"a": torch.arange(6.0).reshape(2, 3).nextafter(torch.tensor(9.0))},
        CONTENT | {"b": [1, "x", None, True, torch.tensor([1, 2])]},
        CONTENT | {"b": [1.0, "x", None, True, (torch.tensor([1, 2]),)]},
        {"c": CONTENT["c"], "a": CONTENT["a"], "b": CONTENT["b"]},
    ],
)
def test_the_hash_of_tensors_notices_values_types_shapes_and_order(other):
    assert hash_tensors(other) != hash_tensors(CONTENT)


def test_the_hash_of_tensors_is_that_of_the_numbers_however_they_lie_in_memory():
    assert hash_tensors(CONTENT["a"].t().contiguous().t()) == hash_tensors(CONTENT["a"])


@pytest.mark.parametrize("content", [{"a": (1, 2)}, {"a": {1: 2}}, {"a": float("nan")}])
def test_what_json_would_change_has_no_hash(content):
    with pytest.raises(ValueError, match=r"come back as something else|not JSON compliant"):
        hash_json(content)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.booleans())), st.integers(0, 2))
def test_sealed_json_is_read_as_it_was_written_or_refused(tmp_path_factory, content, wrong):
    path = tmp_path_factory.mktemp("sealed") / "file.json"
    content = content | {"schema": 3}
    content["sha256"] = hash_json(content) if wrong != 1 else "0" * 64
    write_text(path, json.dumps(content))
    if wrong:
        with pytest.raises(ResultsError, match=r"SHA-256|schema is 3") as error:
            read_sealed_json(path, 3 if wrong == 1 else 4, ResultsError, "again")
        assert str(error.value).startswith(f"{path}: ") and str(error.value).endswith("; again")
    else:
        assert read_sealed_json(path, 3, ResultsError, "again") == content
