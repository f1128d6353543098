"""A validation is joined with the run's evaluation, takes the place of one that says less, or is kept beside it."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mbml_lightning.files.evaluation import Evaluation, Split, load_trajectories
from mbml_lightning.files.validations import covers, joined, keep, place

SETTINGS = {"seed": 0, "max_context": None, "context_episodes": 1}
HORIZON, EPISODES = 4, 3


def evaluation(tasks: dict[str, int], trials: int = 2, value: float = 0.0, **changes) -> Evaluation:
    """An evaluation on so many tasks of each split, all of whose returns are ``value``."""
    splits = {
        name: Split([[float(i), 0.0] for i in range(count)], np.full((count, trials, EPISODES), value))
        for name, count in tasks.items()
    }
    made_of = {"weights": "w", "settings": SETTINGS} | changes.pop("made_of", {})
    names = {"method": "MBML", "distribution": "PointGoal", "env_id": "mbml/PointGoal-v0", "seed": 0, "step": 20}
    sizes = {"protocol": "prior-online", "horizon": HORIZON, "episodes": EPISODES, "uncounted": 1, "trials": trials}
    return Evaluation(**(names | sizes | changes), splits=splits, made_of=made_of)


def paths(e: Evaluation, value: float = 0.0) -> dict[str, np.ndarray]:
    return {n: np.full((len(s.tasks), EPISODES, HORIZON + 1, 2), value) for n, s in e.splits.items()}


def kept(folder, e: Evaluation, value: float = 0.0):
    return keep(folder, e, paths(e, value))


def test_the_first_one_is_the_runs_own(tmp_path):
    assert kept(tmp_path, evaluation({"test": 4})).path == tmp_path / "evaluation.json"
    other = evaluation({"test": 4}, protocol="random-first")
    assert kept(tmp_path, other).path == tmp_path / "evaluation-random-first.json"
    assert (tmp_path / "trajectories-random-first.npz").exists()


def test_other_splits_are_joined_with_their_trajectories(tmp_path):
    kept(tmp_path, evaluation({"train": 5, "test": 4}, value=1.0), 1.0)
    assert kept(tmp_path, evaluation({"ood": 3}, value=2.0), 2.0).path == tmp_path / "evaluation.json"
    found = Evaluation.load(tmp_path / "evaluation.json")
    assert {n: (len(s.tasks), s.returns.mean()) for n, s in found.splits.items()} == {
        "train": (5, 1.0),
        "test": (4, 1.0),
        "ood": (3, 2.0),
    }
    pictures = load_trajectories(tmp_path / "trajectories.npz", found)
    assert {n: x.mean() for n, x in pictures.items()} == {"train": 1.0, "test": 1.0, "ood": 2.0}


def test_fewer_tasks_of_a_split_do_not_take_the_place_of_more(tmp_path):
    kept(tmp_path, evaluation({"test": 4}, value=1.0), 1.0)
    kept(tmp_path, evaluation({"test": 2}, value=1.0), 1.0)
    found = Evaluation.load(tmp_path / "evaluation.json")
    assert len(found.splits["test"].tasks) == 4
    assert len(load_trajectories(tmp_path / "trajectories.npz", found)["test"]) == 4
    kept(tmp_path, evaluation({"test": 6}, value=1.0), 1.0)
    found = Evaluation.load(tmp_path / "evaluation.json")
    assert len(found.splits["test"].tasks) == len(load_trajectories(tmp_path / "trajectories.npz", found)["test"]) == 6


def test_more_trials_of_all_splits_take_the_place(tmp_path):
    kept(tmp_path, evaluation({"train": 5, "test": 4}))
    assert kept(tmp_path, evaluation({"train": 5, "test": 4}, trials=8)).path == tmp_path / "evaluation.json"
    assert Evaluation.load(tmp_path / "evaluation.json").trials == 8


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        (evaluation({"train": 5}, trials=1), "has trials 2, this one 1"),
        (evaluation({"train": 5}, trials=8), "has trials 2, this one 8"),
        (evaluation({"train": 5, "test": 4}, made_of={"weights": "others"}), "is of other weights"),
        (evaluation({"train": 5, "test": 4}, uncounted=0), "has uncounted 2, this one 0"),
        (evaluation({"train": 5, "test": 4}, made_of={"settings": SETTINGS | {"seed": 1}}), "has settings"),
        (evaluation({"train": 5, "test": 4}, made_of={"settings": None}), "has settings"),
    ],
)
def test_anything_else_is_kept_beside(tmp_path, new, reason):
    kept(tmp_path, evaluation({"train": 5, "test": 4}, value=1.0))
    before = (tmp_path / "evaluation.json").read_bytes()
    chosen = kept(tmp_path, new)
    assert chosen.path.parent == tmp_path / "validations"
    assert reason.replace("uncounted 2", "uncounted 1") in chosen.reason
    assert (tmp_path / "evaluation.json").read_bytes() == before
    assert Evaluation.load(chosen.path).splits.keys() == new.splits.keys()
    assert kept(tmp_path, new).path == chosen.path  # again, in its own place
    assert len(list((tmp_path / "validations").glob("*.json"))) == 1


def test_beside_splits_are_joined_too(tmp_path):
    kept(tmp_path, evaluation({"train": 5, "test": 4}))
    for name in ("train", "test"):
        path = kept(tmp_path, evaluation({name: 2}, trials=1)).path
    assert Evaluation.load(path).splits.keys() == {"train", "test"}


def test_a_damaged_evaluation_is_not_replaced(tmp_path):
    (tmp_path / "evaluation.json").write_text("{")
    chosen = kept(tmp_path, evaluation({"test": 4}))
    assert chosen.path.parent.name == "validations" and "evaluation.json: cannot be read" in chosen.reason
    assert (tmp_path / "evaluation.json").read_text() == "{"


counts = st.dictionaries(st.sampled_from(["train", "test", "ood"]), st.integers(1, 6), min_size=1)


@given(counts, counts)
def test_joining_loses_nothing_and_is_idempotent(old, new):
    first, second = evaluation(old, value=1.0), evaluation(new, value=2.0)
    both = joined(first, second)
    for name in old.keys() | new.keys():
        assert len(both.splits[name].tasks) == max(old.get(name, 0), new.get(name, 0))
    assert covers(both, first) and covers(both, second)
    again = joined(both, second)
    assert all(np.array_equal(again.splits[n].returns, both.splits[n].returns) for n in both.splits)


@given(counts, counts, st.integers(1, 3), st.integers(1, 3))
def test_nothing_is_covered_by_less(old, new, before, now):
    first, second = evaluation(old, before), evaluation(new, now)
    expected = now >= before and all(new.get(name, 0) >= count for name, count in old.items())
    assert covers(second, first) == expected


def test_other_tasks_are_not_covered():
    first = evaluation({"test": 2})
    moved = replace(first, splits={"test": Split([[9.0, 9.0]] * 2, first.splits["test"].returns)})
    assert not covers(moved, first)


def test_the_place_is_chosen_without_writing(tmp_path):
    assert place(tmp_path, evaluation({"test": 1})).path == tmp_path / "evaluation.json"
    assert not list(tmp_path.iterdir())
