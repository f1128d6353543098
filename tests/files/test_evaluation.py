import dataclasses
import json
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.evaluation import Evaluation, Split, file_name, load_trajectories, save_trajectories
from mbml_lightning.files.writing import hash_json


def evaluation(**changes):
    returns = np.random.default_rng(0).normal(size=(3, 2, 5)) * 1e3 / 7
    fields = dict(
        method="MBML",
        distribution="PointGoal",
        env_id="mbml/PointGoal-v0",
        seed=4,
        step=2000,
        protocol="prior-online",
        horizon=20,
        episodes=5,
        uncounted=2,
        trials=2,
        splits={"test": Split([[0.0, 1.0], [1.0, 0.0], [0.6, 0.8]], returns)},
        made_by={"command": "mbml fit", "wall_clock": {"training": 12.5, "evaluation": 3}},
    )
    return Evaluation(**(fields | changes))


def test_round_trip_is_exact(tmp_path):
    saved = evaluation()
    saved.save(tmp_path / "evaluation.json")
    loaded = Evaluation.load(tmp_path / "evaluation.json")
    for field in dataclasses.fields(Evaluation):
        if field.name != "splits":
            assert getattr(loaded, field.name) == getattr(saved, field.name)
    assert loaded.splits["test"].tasks == saved.splits["test"].tasks
    np.testing.assert_array_equal(loaded.splits["test"].returns, saved.splits["test"].returns)
    assert [file.name for file in tmp_path.iterdir()] == ["evaluation.json"]


def test_wall_clock_is_empty_where_it_was_not_measured():
    assert evaluation().wall_clock == {"training": 12.5, "evaluation": 3.0}
    assert evaluation(made_by={}).wall_clock == {}


def test_a_failing_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "evaluation.json"
    evaluation().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        evaluation(made_by={"loss": float("nan")}).save(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trials": 3}, r"splits\.test\.returns has shape \(3, 2, 5\)"),
        ({"episodes": 4}, r"splits\.test\.returns has shape"),
        ({"uncounted": 5}, "uncounted"),
        ({"uncounted": -1}, "uncounted"),
        ({"splits": {}}, "splits"),
        ({"splits": {"tset": Split([0.0], np.zeros((1, 2, 5)))}}, "tset"),
        ({"splits": {"test": Split([0.0], np.zeros((2, 2, 5)))}}, r"splits\.test\.returns"),
        ({"splits": {"test": Split([], np.zeros((0, 2, 5)))}}, r"splits\.test\.returns"),
        ({"splits": {"test": Split([0.0], np.full((1, 2, 5), np.nan))}}, r"splits\.test\.returns holds NaN"),
    ],
)
def test_impossible_evaluations_are_refused(changes, message):
    with pytest.raises(ResultsError, match=message):
        evaluation(**changes)


def seal(content):
    """As if it had been written so; NaN cannot be."""
    with suppress(ValueError):
        content["sha256"] = hash_json(content)


@given(st.data())
def test_a_changed_byte_is_never_believed(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("results") / "evaluation.json"
    evaluation().save(path)
    whole, content = Evaluation.load(path), bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        read = Evaluation.load(path)  # white space, or another way to write the same character
    except ResultsError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
    else:
        assert read.splits["test"].returns.tolist() == whole.splits["test"].returns.tolist()
        assert (read.step, read.made_by) == (whole.step, whole.made_by)


def damage(content, *names, value):
    *path, last = names
    for name in path:
        content = content[name]
    content[last] = value


@pytest.mark.parametrize(
    ("names", "value", "message"),
    [
        (["schema"], 1, "schema is 1"),
        (["seed"], "0", "field seed"),
        (["seed"], True, "field seed"),
        (["horizon"], None, "field horizon"),
        (["splits"], [], "field splits"),
        (["splits", "test"], [], "cannot be read"),
        (["splits", "test", "returns"], [[1.0], [2.0, 3.0]], "cannot be read"),
        (["splits", "test", "returns"], [1.0, 2.0], r"splits\.test\.returns has shape \(1, 1, 2\)"),
        (["splits", "test", "returns", 0, 1, 2], float("nan"), "Out of range float"),
        (["splits", "test", "returns", 0, 1, 2], "high", "cannot be read .*high"),
    ],
)
def test_damaged_files_are_refused_by_name_in_one_line(tmp_path, names, value, message):
    path = tmp_path / "evaluation.json"
    evaluation().save(path)
    content = json.loads(path.read_text())
    damage(content, *names, value=value)
    seal(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match=message) as error:
        Evaluation.load(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe\x00", b"null"])
def test_what_is_no_evaluation_is_refused(tmp_path, content):
    path = tmp_path / "evaluation.json"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"evaluation\.json: .*evaluate again"):
        Evaluation.load(path)


def test_missing_field_is_named(tmp_path):
    path = tmp_path / "evaluation.json"
    evaluation().save(path)
    content = json.loads(path.read_text())
    del content["protocol"]
    seal(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ResultsError, match="field protocol is missing"):
        Evaluation.load(path)


def test_trajectories_round_trip(tmp_path):
    observations = np.random.default_rng(0).normal(size=(3, 5, 21, 2)).astype(np.float32)
    save_trajectories(tmp_path / "trajectories.npz", {"test": observations})
    loaded = load_trajectories(tmp_path / "trajectories.npz", evaluation())
    np.testing.assert_array_equal(loaded["test"], observations)
    assert [file.name for file in tmp_path.iterdir()] == ["trajectories.npz"]


@pytest.mark.parametrize("shape", [(2, 5, 21, 2), (3, 4, 21, 2), (3, 5, 21)])
def test_trajectories_of_another_evaluation_are_refused(tmp_path, shape):
    path = tmp_path / "trajectories.npz"
    np.savez(path, test=np.zeros(shape, np.float32))
    with pytest.raises(ResultsError, match=r"trajectories\.npz: test is float32"):
        load_trajectories(path, evaluation())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", b"no archive"])
def test_damaged_trajectories_are_refused(tmp_path, content):
    path = tmp_path / "trajectories.npz"
    path.write_bytes(content)
    with pytest.raises(ResultsError, match=r"trajectories\.npz: cannot be read"):
        load_trajectories(path, evaluation())


def test_nothing_is_unpickled(tmp_path):
    path = tmp_path / "trajectories.npz"
    np.savez(path, test=np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ResultsError, match=r"trajectories\.npz: cannot be read"):
        load_trajectories(path, evaluation())


def test_files_are_named_after_every_protocol_but_the_paper_s():
    assert file_name("evaluation.json", "prior-online") == "evaluation.json"
    assert file_name("trajectories.npz", "offline-own") == "trajectories-offline-own.npz"
