"""What every task distribution's environment promises, whatever its physics."""

import math
import os

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from mbml_lightning.envs import DISTRIBUTIONS, TaskVectorEnv, distribution, make_vec_env
from mbml_lightning.envs.point import PointSimulation

# R(s, a, s') of one transition under one task, written again with plain floats.
REWARDS = {
    "UmazeGoalM": lambda task, s, a, s_next: math.exp(-math.dist(s_next[:2], task)),
    "PointGoal": lambda task, s, a, s_next: -math.dist(s_next, task),
}
each_family = pytest.mark.parametrize("name", DISTRIBUTIONS)


def copies(name, n, *, first=0, num_threads=1, mode=AutoresetMode.DISABLED):
    tasks = distribution(name).sample_tasks(16, np.random.default_rng(5))[first : first + n]
    return TaskVectorEnv(distribution(name), tasks, num_threads, mode)


def draw_actions(name, steps, n, seed=1):
    rng = np.random.default_rng(seed)
    # Kept for five steps each, so that the maze's particle travels and meets walls.
    actions = rng.uniform(-1, 1, size=(-(-steps // 5), n, distribution(name).action_dim))
    return np.repeat(actions, 5, axis=0)[:steps].astype(np.float32)


def trajectory(env, actions):
    """Observations and rewards of all steps; the horizon is not crossed."""
    results = [env.step(a)[:2] for a in actions]
    return np.stack([r[0] for r in results]), np.stack([r[1] for r in results])


@each_family
@pytest.mark.parametrize(("first", "n", "num_threads"), [(2, 1, 1), (7, 3, 2), (0, 16, 1), (0, 16, 2)])
def test_trajectory_depends_on_seed_task_and_actions_alone(name, first, n, num_threads):
    family = distribution(name)
    actions = draw_actions(name, family.horizon, 16)[:, first : first + n]
    env = copies(name, n, first=first, num_threads=num_threads)
    start, _ = env.reset(seed=[100 + first + i for i in range(n)])
    observations, rewards = trajectory(env, actions)
    for i in {0, n - 1}:
        alone = gym.make(family.env_id, task=env.tasks[i].tolist())
        first_observation, _ = alone.reset(seed=100 + first + i)
        steps = [alone.step(a[i]) for a in actions]
        np.testing.assert_array_equal(start[i], first_observation)
        np.testing.assert_array_equal(observations[:, i], [s[0] for s in steps])
        np.testing.assert_array_equal(rewards[:, i], [s[1] for s in steps])


@each_family
def test_copies_do_not_influence_each_other(name):
    actions, other = (draw_actions(name, 15, 3, seed) for seed in (1, 2))
    env = copies(name, 3)
    env.reset(seed=0)
    before = trajectory(env, actions)[0]
    changed = actions.copy()
    changed[:, 1] = other[:, 1]
    env.reset(seed=0)
    after = trajectory(env, changed)[0]
    np.testing.assert_array_equal(after[:, [0, 2]], before[:, [0, 2]])
    assert not np.array_equal(after[:, 1], before[:, 1])


@each_family
def test_partial_reset_leaves_the_other_copies_alone(name):
    actions = draw_actions(name, 12, 3)
    env = copies(name, 3)
    env.reset(seed=0)
    undisturbed = trajectory(env, actions)[0]
    start, _ = env.reset(seed=0)
    trajectory(env, actions[:6])
    observations, infos = env.reset(seed=[7, 1, 7], options={"reset_mask": np.array([False, True, False])})
    assert infos == {}
    np.testing.assert_array_equal(observations[1], start[1])  # 0 + 1 seeded copy 1 the first time
    np.testing.assert_array_equal(observations[[0, 2]], undisturbed[5, [0, 2]])
    np.testing.assert_array_equal(trajectory(env, actions[6:])[0][:, [0, 2]], undisturbed[6:, [0, 2]])


@each_family
def test_nothing_of_an_episode_outlives_its_reset(name):
    fresh, used = copies(name, 2), copies(name, 2)
    used.reset(seed=0)
    trajectory(used, np.ones((distribution(name).horizon, 2, distribution(name).action_dim)))
    for env in (fresh, used):
        env.reset(seed=3)
    for field, array in fresh.get_state().items():
        np.testing.assert_array_equal(used.get_state()[field], array, err_msg=field)


@each_family
def test_seeds(name):
    env = copies(name, 3)
    by_number, _ = env.reset(seed=40)
    np.testing.assert_array_equal(env.reset(seed=[40, 41, 42])[0], by_number)
    goes_on, _ = env.reset()
    assert not np.any(np.all(goes_on == by_number, axis=1))
    env.reset(seed=[40, 41, 42])
    np.testing.assert_array_equal(env.reset(seed=[None, None, None])[0], goes_on)
    assert not np.array_equal(by_number[0], by_number[1])


@each_family
def test_horizon_truncates_and_never_terminates(name):
    horizon = distribution(name).horizon
    env = copies(name, 2)
    env.reset(seed=0)
    results = [env.step(a)[2:4] for a in draw_actions(name, 3, 2)]
    env.reset(seed=0, options={"reset_mask": np.array([False, True])})
    results += [env.step(a)[2:4] for a in draw_actions(name, horizon - 3, 2)]
    terminations, truncations = np.array(results).transpose(1, 2, 0)
    assert not terminations.any()
    assert truncations.shape == (2, horizon) and truncations[0].tolist() == [False] * (horizon - 1) + [True]
    assert not truncations[1].any()  # three steps behind
    with pytest.raises(RuntimeError, match=r"copies \[0\] must be reset"):
        env.step(draw_actions(name, 1, 2)[0])
    env.reset(options={"reset_mask": np.array([True, False])})
    assert [env.step(a)[3].tolist() for a in draw_actions(name, 3, 2)] == [
        [False, False],
        [False, False],
        [False, True],
    ]


@each_family
def test_state_goes_on_bit_identically(name):
    horizon = distribution(name).horizon
    actions = draw_actions(name, horizon, 4)
    actions[: horizon // 2, :, 0] = 1.0  # the maze's particles lean on a wall when the state is taken
    env = copies(name, 4)
    env.reset(seed=0)
    trajectory(env, actions[: horizon // 2])
    state = env.get_state()
    expected = trajectory(env, actions[horizon // 2 :])
    with pytest.raises(RuntimeError, match="must be reset"):
        env.step(actions[0])
    for other in (env, copies(name, 4, num_threads=2)):
        other.set_state(state)
        observations, rewards = trajectory(other, actions[horizon // 2 : -1])
        np.testing.assert_array_equal(observations, expected[0][:-1])
        np.testing.assert_array_equal(rewards, expected[1][:-1])
        assert other.step(actions[-1])[3].all()


@each_family
def test_state_of_another_environment_is_refused(name):
    env = copies(name, 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="this environment has"):
        copies(name, 3).set_state(env.get_state())
    with pytest.raises(ValueError, match="this environment has"):
        env.set_state({"elapsed": np.zeros(2, dtype=np.int64)})


@each_family
def test_rewards_are_the_formula_and_the_oracle_knows_them(name):
    family, formula = distribution(name), REWARDS[name]
    env = copies(name, 3)
    s, _ = env.reset(seed=0)
    for a in draw_actions(name, 20, 3):
        s_next, rewards, _, _, infos = env.step(a)
        expected = [formula(env.tasks[i], s[i], a[i], s_next[i]) for i in range(3)]
        np.testing.assert_allclose(rewards, expected, rtol=1e-12)
        terms = family.reward_terms(env.tasks, s, a, s_next)
        assert set(infos) == {*terms, *(f"_{term}" for term in terms)}
        np.testing.assert_array_equal(sum(infos[term] for term in terms), rewards)
        np.testing.assert_array_equal(family.reward(env.tasks, s, a, s_next), rewards)
        assert all(infos[f"_{term}"].all() for term in terms)
        s = s_next


@each_family
def test_oracle_broadcasts_tasks_over_transitions(name):
    family, rng = distribution(name), np.random.default_rng(0)
    tasks = family.sample_tasks(4, rng)
    s, s_next = rng.normal(size=(2, 3, 5, family.observation_dim)).astype(np.float32)
    a = rng.uniform(-1, 1, size=(3, 5, family.action_dim)).astype(np.float32)
    rewards = family.reward(tasks[:, None, None], s, a, s_next)
    assert rewards.shape == (4, 3, 5) and rewards.dtype == np.float64
    for i, j, t in np.ndindex(4, 3, 5):
        expected = REWARDS[name](tasks[i], s[j, t], a[j, t], s_next[j, t])
        assert math.isclose(rewards[i, j, t], expected, rel_tol=1e-12)


@each_family
def test_shapes_types_and_spaces(name):
    family = distribution(name)
    env = copies(name, 3)
    assert env.single_observation_space == family.observation_space and env.num_envs == 3
    assert env.observation_space.shape == (3, family.observation_dim)
    assert family.action_space.low.tolist() == [-1.0] * family.action_dim
    assert family.action_space.high.tolist() == [1.0] * family.action_dim
    start, _ = env.reset(seed=0)
    observations, rewards, terminations, truncations, _ = env.step(env.action_space.sample())
    assert start in env.observation_space and observations in env.observation_space
    assert (rewards.dtype, terminations.dtype, truncations.dtype) == (np.float64, np.bool_, np.bool_)
    assert rewards.shape == terminations.shape == truncations.shape == (3,)


@each_family
def test_what_is_returned_belongs_to_the_caller(name):
    actions = draw_actions(name, 6, 2)
    env = copies(name, 2)
    env.reset(seed=0)
    expected = trajectory(env, actions)
    start, _ = env.reset(seed=0)
    start[:] = np.nan
    for step, a in enumerate(actions):
        sent = a.copy()
        observations, rewards, terminations, truncations, infos = env.step(a)
        np.testing.assert_array_equal(a, sent)
        np.testing.assert_array_equal(observations, expected[0][step])
        np.testing.assert_array_equal(rewards, expected[1][step])
        for array in (observations, rewards, terminations, truncations, *infos.values()):
            array[:] = 1


def test_reward_may_ask_for_the_state_before_the_step():
    class Progress(PointSimulation):
        def reward_terms(self, observations, actions, next_observations):
            return {"reward_x": (next_observations - observations)[:, 0].astype(np.float64)}

    class ProgressFamily(type(distribution("PointGoal"))):
        def simulation(self, tasks, num_threads):
            return Progress(tasks)

    env = TaskVectorEnv(ProgressFamily(), [[1.0, 0.0], [0.0, 1.0]], autoreset_mode="NextStep")
    s = env.reset(seed=0)[0]
    for a in draw_actions("PointGoal", 45, 2):
        before = s.copy()
        s[:] = 9.0  # the caller's to spoil
        s, rewards, _, _, infos = env.step(a)
        expected = np.where(infos["_reward_x"], s[:, 0] - before[:, 0], 0.0)
        np.testing.assert_array_equal(rewards, expected)


@each_family
def test_actions_are_clipped(name):
    family = distribution(name)
    env = copies(name, 2)
    env.reset(seed=0)
    loud = trajectory(env, np.full((5, 2, family.action_dim), 7.0))
    env.reset(seed=0)
    full = trajectory(env, np.ones((5, 2, family.action_dim), dtype=np.float32))
    np.testing.assert_array_equal(loud[0], full[0])


@each_family
def test_bad_calls_are_refused_in_one_line(name):
    family = distribution(name)
    env = copies(name, 3)
    good = np.zeros((3, family.action_dim))
    with pytest.raises(RuntimeError, match=r"copies \[0, 1, 2\] must be reset"):
        env.step(good)
    with pytest.raises(ValueError, match="first reset must be of all copies"):
        env.reset(options={"reset_mask": np.array([True, False, True])})
    env.reset(seed=0)
    bad = good.copy()
    bad[1, 0] = np.nan
    with pytest.raises(ValueError, match=r"copies \[1\] are not numbers"):
        env.step(bad)
    with pytest.raises(ValueError, match=r"actions have shape \(2, "):
        env.step(good[:2])
    with pytest.raises(ValueError, match="2 entries for 3 copies"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="selects no copy"):
        env.reset(options={"reset_mask": np.zeros(3, dtype=bool)})
    for mask in ([True, False, True], np.ones(2, dtype=bool), np.ones(3)):
        with pytest.raises(ValueError, match="must be a bool array"):
            env.reset(options={"reset_mask": mask})


def test_threads_that_pay():
    family = distribution("PointGoal")
    asked = []
    simulation = type(family).simulation

    class Watched(type(family)):
        def simulation(self, tasks, num_threads):
            asked.append(num_threads)
            return simulation(self, tasks, num_threads)

    for n, num_threads in ((1, None), (31, None), (4096, None), (4096, 3)):
        TaskVectorEnv(Watched(), family.sample_tasks(n, np.random.default_rng(0)), num_threads)
    assert asked == [1, 1, min(128, len(os.sched_getaffinity(0))), 3]


@each_family
def test_next_step_autoreset_also_needs_a_first_reset(name):
    with pytest.raises(RuntimeError, match="must be reset"):
        make_vec_env(name).step(np.zeros((len(distribution(name).tasks("train")), distribution(name).action_dim)))
