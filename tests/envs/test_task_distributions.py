"""Task sets, sampling and validation."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import mbml_lightning.envs
from mbml_lightning.envs import DISTRIBUTIONS, distribution

OFFICIAL = json.loads((Path(mbml_lightning.envs.__file__).parent / "official_tasks.json").read_text(encoding="utf-8"))
families = st.sampled_from(list(DISTRIBUTIONS.values()))
each_family = pytest.mark.parametrize("name", DISTRIBUTIONS)


def test_maze_goals_are_the_official_ones():
    for split in ("train", "test"):
        goals = distribution("UmazeGoalM").tasks(split)
        assert goals.shape == (10, 2) and goals.dtype == np.float64
        np.testing.assert_array_equal(goals, OFFICIAL["UmazeGoal-M"][split])


def test_maze_goals_regenerate_from_their_seed():
    rng = np.random.RandomState(1336)
    for split in ("train", "test"):
        x = np.concatenate([rng.uniform(0.4, 1.2, 5), rng.uniform(2.4, 3.2, 5)])
        goals = np.stack([x, rng.uniform(1.0, 2.0, 10)], axis=1)
        np.testing.assert_array_equal(distribution("UmazeGoalM").tasks(split), goals)


def test_official_table_has_all_distributions_of_the_paper():
    for name in ("AntDir", "AntGoal", "HalfCheetahVel", "HumanoidDir-M"):
        assert (len(OFFICIAL[name]["train"]), len(OFFICIAL[name]["test"])) == (10, 8)
    assert (OFFICIAL["WalkerParam"]["num_train"], OFFICIAL["WalkerParam"]["num_test"]) == (30, 8)


def test_point_goals_lie_on_the_arc_test_between_training_and_ood_beyond():
    family = distribution("PointGoal")
    angles = {split: np.rad2deg(np.arctan2(*family.tasks(split).T[::-1])) for split in family.splits}
    for split in family.splits:
        np.testing.assert_allclose(np.hypot(*family.tasks(split).T), 1.0)
    train, test = np.sort(angles["train"]), np.sort(angles["test"])
    np.testing.assert_allclose(train, [0, 45, 90, 135, 180], atol=1e-9)
    np.testing.assert_allclose(test, (train[:-1] + train[1:]) / 2)
    assert len(angles["ood"]) == 4 and (angles["ood"] < 0).all()  # the lower half of the circle


@each_family
def test_task_sets_are_valid_and_the_callers_own(name):
    family = distribution(name)
    assert {"train", "test"} <= set(family.splits)
    for split in family.splits:
        tasks = family.tasks(split)
        np.testing.assert_array_equal(family.validate_tasks(tasks), tasks)
        tasks[:] = 0
        assert family.tasks(split).any()


def test_unknown_names_list_the_known_ones():
    with pytest.raises(ValueError, match="no task distribution 'Maze': choose one of UmazeGoalM, PointGoal"):
        distribution("Maze")
    with pytest.raises(ValueError, match=r"UmazeGoalM has no task set 'ood': choose one of train, test$"):
        distribution("UmazeGoalM").tasks("ood")
    with pytest.raises(ValueError, match=r"PointGoal has no task set 'valid': choose one of train, test, ood$"):
        distribution("PointGoal").tasks("valid")


@given(family=families, n=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_sampled_tasks_belong_to_the_family_and_repeat_with_the_seed(family, n, seed):
    tasks = family.sample_tasks(n, np.random.default_rng(seed))
    assert tasks.shape == (n, *family.task_shape)
    np.testing.assert_array_equal(family.validate_tasks(tasks), tasks)
    np.testing.assert_array_equal(family.sample_tasks(n, np.random.default_rng(seed)), tasks)


@pytest.mark.parametrize("n", [1, 10, 11])
def test_sampled_maze_goals_fill_both_arms(n):
    x, y = distribution("UmazeGoalM").sample_tasks(n, np.random.default_rng(0)).T
    first, second = (x >= 0.4) & (x <= 1.2), (x >= 2.4) & (x <= 3.2)
    assert (first | second).all() and first.sum() - second.sum() == n % 2
    assert ((y >= 1) & (y <= 2)).all()


def test_sampled_tasks_spread_over_their_ranges():
    rng = np.random.default_rng(0)
    x, y = distribution("UmazeGoalM").sample_tasks(4000, rng).T
    np.testing.assert_allclose([x[:2000].mean(), x[2000:].mean(), y.mean()], [0.8, 2.8, 1.5], atol=0.02)
    np.testing.assert_allclose([x[:2000].std(), x[2000:].std(), y.std()], np.array([0.8, 0.8, 1]) / 12**0.5, rtol=0.05)
    angles = np.arctan2(*distribution("PointGoal").sample_tasks(4000, rng).T[::-1])
    assert angles.min() >= 0
    np.testing.assert_allclose([angles.mean(), angles.std()], [np.pi / 2, np.pi / 12**0.5], rtol=0.05)


@each_family
@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        ([1.0, 1.5], r"shape \(2,\), expected \(n, 2\)"),
        (np.zeros((2, 3)), r"shape \(2, 3\), expected \(n, 2\)"),
        (np.zeros((0, 2)), r"shape \(0, 2\), expected \(n, 2\), n >= 1"),
        ([[0.9, 1.0], [0.9, np.nan]], r"task 1 is \[0\.9, nan\], expected a goal"),
        ([[0.9, 1.0], [np.inf, 1.0]], r"task 1 is \[inf, 1\.0\], expected a goal"),
        ([[0.9, 1.0], [0.9, 1.0], [9.0, 1.0]], r"task 2 is \[9\.0, 1\.0\], expected a goal"),
        ([["a", "b"]], "not an array of numbers"),
        ([[1.0], [1.0, 2.0]], "not an array of numbers"),
    ],
)
def test_bad_tasks_are_refused_in_one_line(name, tasks, message):
    with pytest.raises(ValueError, match=message) as error:
        distribution(name).validate_tasks(tasks)
    assert str(error.value).startswith(name) and "\n" not in str(error.value)
