"""Task sets, sampling and validation."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jaxtyping import TypeCheckError
from scipy.stats import kstest

import mbml_lightning.envs
from mbml_lightning.envs import DISTRIBUTIONS, TaskVectorEnv, distribution

OFFICIAL = json.loads((Path(mbml_lightning.envs.__file__).parent / "official_tasks.json").read_text(encoding="utf-8"))
ARC = 2 * np.pi / 3
SECOND_HALF = np.arange(4000) >= 2000
UNIFORM = {  # what is independent and uniform on [0, 1) in 4,000 drawn tasks
    "AntDir": lambda tasks: [tasks / ARC],
    "AntDirFwd": lambda tasks: [tasks / (2 * np.pi)],
    "AntGoal": lambda tasks: [np.arctan2(tasks[:, 1], tasks[:, 0]) / ARC, (tasks**2).sum(axis=1) / 3.0**2],
    "HalfCheetahVel": lambda tasks: [tasks - 0.5],
    "HopperParam": lambda tasks: (tasks.T + 2) / 4,
    "HumanoidDir": lambda tasks: [tasks / ARC],
    "HumanoidDirM": lambda tasks: [tasks / ARC],
    "MazeMedium": lambda tasks: [(tasks[:, 0] - 0.4) / 1.8, (tasks[:, 1] - np.where(SECOND_HALF, 4.4, 0.4)) / 1.8],
    "PointGoal": lambda tasks: [np.arctan2(tasks[:, 1], tasks[:, 0]) / np.pi],
    "UmazeGoalM": lambda tasks: [(tasks[:, 0] - np.where(SECOND_HALF, 2.4, 0.4)) / 0.8, tasks[:, 1] - 1],
    "WalkerParam": lambda tasks: (tasks.T + 2) / 4,
}
families = st.sampled_from(list(DISTRIBUTIONS.values()))
each_family = pytest.mark.parametrize("name", DISTRIBUTIONS)


@pytest.mark.parametrize(("name", "official"), [("UmazeGoalM", "UmazeGoal-M"), ("MazeMedium", "MazeMedium")])
def test_maze_goals_are_the_official_ones(name, official):
    assert list(distribution(name).splits) == ["train", "test"]
    for split in ("train", "test"):
        goals = distribution(name).tasks(split)
        assert goals.shape == (10, 2) and goals.dtype == np.float64
        np.testing.assert_array_equal(goals, OFFICIAL[official][split])


def test_maze_goals_regenerate_from_their_seed():
    rng = np.random.RandomState(1336)
    for split in ("train", "test"):
        x = np.concatenate([rng.uniform(0.4, 1.2, 5), rng.uniform(2.4, 3.2, 5)])
        goals = np.stack([x, rng.uniform(1.0, 2.0, 10)], axis=1)
        np.testing.assert_array_equal(distribution("UmazeGoalM").tasks(split), goals)
    rng = np.random.RandomState(1336)
    for split in ("train", "test"):
        rooms = [[rng.uniform(0.4, 2.2, 5), rng.uniform(*y, 5)] for y in ((0.4, 2.2), (4.4, 6.2))]
        goals = np.concatenate(rooms, axis=1).T
        np.testing.assert_array_equal(distribution("MazeMedium").tasks(split), goals)


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


PLANAR = ("AntGoal", "MazeMedium", "PointGoal", "UmazeGoalM")


@each_family
def test_planar_families_observe_the_place_in_which_tasks_are_goals(name):
    family = distribution(name)
    assert family.planar == (name in PLANAR)
    if family.planar:
        env = TaskVectorEnv(family, family.tasks("train")[:3])
        env.reset(seed=0)
        observations, *_ = env.step(np.full((3, family.action_dim), 0.5))
        np.testing.assert_allclose(observations[:, :2], env.outcomes[:, :2], atol=0.05)  # the ant's lags its state
        at_goals = np.concatenate([env.tasks, env.outcomes[:, 2:]], axis=1)
        away = at_goals + np.array([0.1, -0.1, *np.zeros(at_goals.shape[1] - 2)])
        actions = np.zeros((3, family.action_dim))
        assert (family.reward(env.tasks, actions, at_goals) > family.reward(env.tasks, actions, away)).all()


@each_family
def test_arguments_of_rewards_are_checked_while_testing(name):
    family = distribution(name)
    tasks, outcomes = family.tasks("train")[:1], np.zeros((1, max(family.unobserved_outcomes, 2)))
    family.reward_terms(tasks, np.zeros((1, family.action_dim)), outcomes)
    with pytest.raises(TypeCheckError):
        family.reward_terms(tasks, np.zeros((1, family.action_dim), dtype=int), outcomes)


def test_unknown_names_list_the_known_ones():
    known = re.escape(", ".join(DISTRIBUTIONS))
    with pytest.raises(
        ValueError, match=f"^no task distribution 'Maze': choose one of {known}, or a class of your own"
    ):
        distribution("Maze")


@each_family
def test_unknown_sets_list_the_known_ones(name):
    known = ", ".join(distribution(name).splits)
    with pytest.raises(ValueError, match=f"^{name} has no task set 'valid': choose one of {known}$"):
        distribution(name).tasks("valid")


@given(family=families, n=st.integers(1, 50), seed=st.integers(0, 2**32 - 1))
def test_sampled_tasks_belong_to_the_family_and_repeat_with_the_seed(family, n, seed):
    tasks = family.sample_tasks(n, np.random.default_rng(seed))
    assert tasks.shape == (n, *family.task_shape)
    np.testing.assert_array_equal(family.validate_tasks(tasks), tasks)
    np.testing.assert_array_equal(family.sample_tasks(n, np.random.default_rng(seed)), tasks)


@each_family
def test_sampled_tasks_are_uniform_on_their_range(name):
    columns = np.array(UNIFORM[name](distribution(name).sample_tasks(4000, np.random.default_rng(0))))
    assert columns.min() >= 0 and columns.max() < 1
    assert kstest(columns, "uniform", axis=1).pvalue.min() > 1e-4
    assert np.abs(np.corrcoef(columns) - np.eye(len(columns))).max() < 0.1


@pytest.mark.parametrize("n", [1, 10, 11])
@pytest.mark.parametrize(("name", "axis", "between"), [("UmazeGoalM", 0, 1.8), ("MazeMedium", 1, 3.3)])
def test_half_of_the_sampled_goals_lie_in_each_part_of_a_maze(name, axis, between, n):
    first = distribution(name).sample_tasks(n, np.random.default_rng(0))[:, axis] < between
    assert first.sum() == n - n // 2 and first[: n - n // 2].all()


@each_family
@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf, 99.0, -99.0])
def test_a_task_beyond_its_family_is_refused_in_one_line(name, number):
    tasks = distribution(name).tasks("test")[:3]
    tasks.reshape(3, -1)[1, -1] = number
    meaning = re.escape(distribution(name).task_meaning)
    value = rf"(is|has values from) .*{number:g}.*"
    with pytest.raises(ValueError, match=rf"\A{name}: task 1 {value}, expected {meaning}\Z"):
        distribution(name).validate_tasks(tasks)


@each_family
@pytest.mark.parametrize(
    "wrong",
    [
        lambda shape: shape,  # one task, not an array of them
        lambda shape: (0, *shape),
        lambda shape: (3, 1 + sum(shape)),
        lambda shape: (1, 3, *shape),
    ],
)
def test_tasks_of_another_shape_are_refused_in_one_line(name, wrong):
    shape = wrong(distribution(name).task_shape)
    message = re.escape(f"{name}: tasks have shape {shape}, expected (n") + r".*\), n >= 1"
    with pytest.raises(ValueError, match=rf"\A{message}\Z"):
        distribution(name).validate_tasks(np.zeros(shape))


@each_family
@pytest.mark.parametrize("tasks", [[["a", "b"]], [[1.0], [1.0, 2.0]]])
def test_tasks_that_are_no_numbers_are_refused_in_one_line(name, tasks):
    with pytest.raises(ValueError, match=rf"\A{name}: tasks are not an array of numbers: .*\Z"):
        distribution(name).validate_tasks(tasks)
