"""Environments are copied and pickled in the middle of an episode, and end when Gymnasium is told that they should."""

import copy
import pickle

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import TimeAwareObservation

from mbml_lightning.envs import DISTRIBUTIONS, make_vec_env
from mbml_lightning.envs.task_env import TaskEnv

WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}  # noqa: S301
each_way = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
each_family = pytest.mark.parametrize("name", DISTRIBUTIONS)


def acted(env, rng, steps):
    """Everything that some random steps return; ended copies are reset with their own generators."""
    found = []
    for _ in range(steps):
        s, r, terminated, truncated, infos = env.step(rng.uniform(-1, 1, env.action_space.shape))
        found += [s, r, terminated, truncated, *(infos[name] for name in sorted(infos))]
    return [np.asarray(x) for x in found]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)


@each_way
@each_family
def test_a_copy_goes_on_bit_for_bit(name, way):
    env = make_vec_env(name, DISTRIBUTIONS[name].tasks("test")[:2])
    env.reset(seed=3)
    acted(env, np.random.default_rng(0), 7)
    twin = way(env)
    steps = (
        env.distribution.horizon + 5 if name in ("PointGoal", "UmazeGoalM") else 12
    )  # over a reset, where it is near
    expected = acted(env, np.random.default_rng(1), steps)
    assert_same(acted(twin, np.random.default_rng(1), steps), expected)
    np.testing.assert_array_equal(twin.reset()[0], env.reset()[0])  # from generators that stand at the same place


@each_way
@each_family
def test_a_copy_of_a_single_environment_goes_on_bit_for_bit(name, way):
    env = gym.make(f"mbml/{name}-v0", task=DISTRIBUTIONS[name].tasks("test")[1].tolist())
    env.reset(seed=3)
    acted(env, np.random.default_rng(0), 3)
    twin = way(env)
    expected = acted(env, np.random.default_rng(1), 4)
    assert_same(acted(twin, np.random.default_rng(1), 4), expected)
    np.testing.assert_array_equal(twin.reset()[0], env.reset()[0])


@each_way
def test_a_copy_does_not_share_its_state(way):
    env = make_vec_env("HalfCheetahVel")
    env.reset(seed=0)
    twin = way(env)
    before = env.get_state()
    acted(twin, np.random.default_rng(0), 3)
    for name, array in env.get_state().items():
        np.testing.assert_array_equal(array, before[name])


def length(env) -> int:
    """Steps of an episode without actions, which is not terminated."""
    env.reset(seed=0)
    for step in range(1, 2000):
        _, _, terminated, truncated, _ = env.step(np.zeros(env.action_space.shape))
        assert not np.any(terminated)
        if np.all(truncated):
            return step
    return 2000


@pytest.mark.parametrize("name", ["PointGoal", "UmazeGoalM", "HalfCheetahVel"])
@pytest.mark.parametrize("made_by", ["make", "make_vec", "TaskEnv", "make_vec_env"])
@pytest.mark.parametrize("limit", [None, 10, 300, -1])
def test_an_episode_is_as_long_as_it_is_told(name, made_by, limit):
    horizon, env_id = DISTRIBUTIONS[name].horizon, f"mbml/{name}-v0"
    told = {} if limit is None else {"max_episode_steps": limit}
    if made_by == "TaskEnv":
        env, expected = TaskEnv(name), horizon  # it knows no other limit than its own
    elif made_by == "make":
        env, expected = gym.make(env_id, **told), limit or horizon
    elif made_by == "make_vec":
        env, expected = gym.make_vec(env_id, tasks="test", **told), limit or horizon
    else:
        env, expected = make_vec_env(name, "test", **told), limit or horizon
    assert length(env) == (2000 if expected == -1 else expected)


@each_family
def test_the_spec_tells_the_horizon(name):
    assert gym.spec(f"mbml/{name}-v0").max_episode_steps == DISTRIBUTIONS[name].horizon


def test_wrappers_that_need_the_horizon_find_it():
    env = TimeAwareObservation(gym.make("mbml/AntDir-v0"), normalize_time=True)
    assert env.reset(seed=0)[0].shape == (28,)
    assert env.step(np.zeros(8))[0][-1] == pytest.approx(1 / 200)


def test_a_copy_keeps_its_way_of_resetting():
    env = make_vec_env("PointGoal", autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=0)
    assert copy.deepcopy(env).autoreset_mode is AutoresetMode.SAME_STEP
