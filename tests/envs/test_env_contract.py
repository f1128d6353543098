"""What every task distribution's environment promises, whatever its physics."""

import copy
import math
import os
import re
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils import seeding
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import Autoreset

from mbml_lightning.envs import DISTRIBUTIONS, TaskVectorEnv, distribution, make_vec_env


def towards(angle, velocity):
    return velocity[0] * math.cos(angle) + velocity[1] * math.sin(angle)


def squares(action, reach=1.0):
    return sum((reach * float(a)) ** 2 for a in action)


# The reward of one transition under one task, by what the simulation measured of it, written again with plain floats.
REWARDS = {
    "AntDir": lambda task, action, v: towards(task, v) - 0.5 * squares(action) + 1,
    "AntDirFwd": lambda task, action, v: towards(task, v),
    "AntGoal": lambda task, action, xy: -abs(xy[0] - task[0]) - abs(xy[1] - task[1]) - 0.1 * squares(action),
    "HalfCheetahVel": lambda task, action, v: -abs(v[0] - task) - 0.05 * squares(action),
    # Metres in a control step of 5 physics steps, over the time of one of them.
    "HumanoidDirM": lambda task, action, v: 1.25 * 5 * towards(task, v) - 0.1 * squares(action, 0.4) + 5,
    "HumanoidDir": lambda task, action, v: 0.25 * 5 * towards(task, v) - 0.1 * squares(action, 0.4) + 5,
    "HopperParam": lambda task, action, v: v[0] - 1e-3 * squares(action) + 1,
    "WalkerParam": lambda task, action, v: v[0] - 1e-3 * squares(action) + 1,
    "MazeMedium": lambda task, action, xy: math.exp(-math.dist(xy, task)),
    "UmazeGoalM": lambda task, action, xy: math.exp(-math.dist(xy, task)),
    "PointGoal": lambda task, action, xy: -math.dist(xy, task),
}
FALLING = ("AntDir", "HumanoidDirM", "WalkerParam", "HumanoidDir", "HopperParam")
TOLD_BY_STATES = ("UmazeGoalM", "MazeMedium", "PointGoal")
STEPS = 45  # enough for robots to fall, for the maze's particles to meet walls, and for two episodes of points
each_family = pytest.mark.parametrize("name", DISTRIBUTIONS)


def copies(name, n, *, first=0, num_threads=1, mode=AutoresetMode.NEXT_STEP):
    tasks = distribution(name).sample_tasks(16, np.random.default_rng(5))[first : first + n]
    return TaskVectorEnv(distribution(name), tasks, num_threads, mode)


def draw_actions(name, steps, n, seed=1):
    rng = np.random.default_rng(seed)
    # Kept for five steps each, so that the maze's particle travels.
    actions = rng.uniform(-1, 1, size=(-(-steps // 5), n, distribution(name).action_dim))
    return np.repeat(actions, 5, axis=0)[:steps].astype(np.float32)


class Trajectory(NamedTuple):
    observations: np.ndarray
    rewards: np.ndarray
    terminations: np.ndarray
    truncations: np.ndarray

    def of(self, which):
        return Trajectory(*(field[:, which] for field in self))

    def steps(self, which):
        return Trajectory(*(field[which] for field in self))


def trajectory(env, actions):
    """All steps, episode after episode, of a single or a vector environment."""
    return Trajectory(*map(np.array, zip(*(env.step(a)[:4] for a in actions), strict=True)))


def assert_same(ours, expected):
    for field, mine, its in zip(Trajectory._fields, ours, expected, strict=True):
        np.testing.assert_array_equal(mine, its, err_msg=field)


@each_family
@pytest.mark.parametrize(("first", "n", "num_threads"), [(2, 1, 1), (7, 3, 2), (0, 16, 1), (0, 16, 2)])
def test_trajectory_depends_on_seed_task_and_actions_alone(name, first, n, num_threads):
    actions = draw_actions(name, STEPS, 16)[:, first : first + n]
    env = copies(name, n, first=first, num_threads=num_threads)
    start, _ = env.reset(seed=[100 + first + i for i in range(n)])
    together = trajectory(env, actions)
    for i in {0, n - 1}:
        alone = Autoreset(gym.make(distribution(name).env_id, task=env.tasks[i].tolist()))
        first_observation, _ = alone.reset(seed=100 + first + i)
        np.testing.assert_array_equal(start[i], first_observation)
        assert_same(together.of(i), trajectory(alone, actions[:, i]))
    if n == 16:
        assert together.terminations.any() == (name in FALLING)
        assert together.truncations.any() == (name == "PointGoal")


@each_family
def test_copies_do_not_influence_each_other(name):
    actions, other = (draw_actions(name, 15, 3, seed) for seed in (1, 2))
    env = copies(name, 3)
    env.reset(seed=0)
    before = trajectory(env, actions)
    changed = actions.copy()
    changed[:, 1] = other[:, 1]
    env.reset(seed=0)
    after = trajectory(env, changed)
    assert_same(after.of([0, 2]), before.of([0, 2]))
    assert not np.array_equal(after.observations[:, 1], before.observations[:, 1])


@each_family
def test_partial_reset_leaves_the_other_copies_alone(name):
    actions = draw_actions(name, 12, 3)
    env = copies(name, 3)
    env.reset(seed=0)
    undisturbed = trajectory(env, actions).of([0, 2])
    start, _ = env.reset(seed=0)
    trajectory(env, actions[:6])
    observations, infos = env.reset(seed=[7, 1, 7], options={"reset_mask": np.array([False, True, False])})
    assert infos == {}
    np.testing.assert_array_equal(observations[1], start[1])  # 0 + 1 seeded copy 1 the first time
    np.testing.assert_array_equal(observations[[0, 2]], undisturbed.observations[5])
    assert_same(trajectory(env, actions[6:]).of([0, 2]), undisturbed.steps(slice(6, None)))


@each_family
def test_nothing_of_an_episode_outlives_its_reset(name):
    fresh, used = copies(name, 2), copies(name, 2)
    used.reset(seed=0)
    trajectory(used, np.ones((STEPS, 2, distribution(name).action_dim)))
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
    env = copies(name, 2, mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    still = np.zeros((2, distribution(name).action_dim))
    state = env.get_state()
    assert state["elapsed"].tolist() == [0, 0]
    state["elapsed"][:] = horizon - 4, horizon - 7
    env.set_state(state)
    terminations, truncations = np.array([env.step(still)[2:4] for _ in range(4)]).transpose(1, 2, 0)
    assert not terminations.any()
    assert truncations.tolist() == [[False, False, False, True], [False] * 4]
    with pytest.raises(RuntimeError, match=r"copies \[0\] must be reset"):
        env.step(still)
    env.reset(options={"reset_mask": np.array([True, False])})
    assert [env.step(still)[3].tolist() for _ in range(3)] == [[False, False], [False, False], [False, True]]
    assert env.get_state()["elapsed"].tolist() == [3, horizon]


@pytest.mark.parametrize("name", FALLING)
def test_a_fall_terminates_without_truncating_and_wants_a_reset(name):
    env = copies(name, 16, mode=AutoresetMode.DISABLED)
    env.reset(seed=0)
    for a in draw_actions(name, STEPS, 16):
        _, _, terminations, truncations, _ = env.step(a)
        assert not truncations.any()
        if terminations.any():
            break
    fallen = np.flatnonzero(terminations).tolist()
    assert 0 < len(fallen) < 16
    with pytest.raises(RuntimeError, match=re.escape(f"copies {fallen} must be reset")):
        env.step(a)
    env.reset(options={"reset_mask": terminations})
    assert not env.step(a)[2][fallen].any()


@each_family
def test_state_goes_on_bit_identically(name):
    actions = draw_actions(name, 2 * STEPS, 4)
    actions[:STEPS, :, 0] = 1.0  # the maze's particles lean on a wall when the state is taken
    env = copies(name, 4)
    env.reset(seed=0)
    trajectory(env, actions[:STEPS])
    state, generators = env.get_state(), copy.deepcopy(env.generators)

    def go_on(env):
        """At once with one copy anew, which must not bring the others' derived fields out of step."""
        mask = np.array([True, False, False, False])
        start, _ = env.reset(seed=[3, None, None, None], options={"reset_mask": mask})
        return start, trajectory(env, actions[STEPS:])

    expected_start, expected = go_on(env)
    for other in (env, copies(name, 4, num_threads=2)):
        other.set_state(state)
        other.generators = copy.deepcopy(generators)
        start, result = go_on(other)
        np.testing.assert_array_equal(start, expected_start)
        assert_same(result, expected)


@each_family
def test_state_of_another_environment_is_refused(name):
    env = copies(name, 2)
    env.reset(seed=0)
    with pytest.raises(ValueError, match="this environment has"):
        copies(name, 3).set_state(env.get_state())
    with pytest.raises(ValueError, match="this environment has"):
        env.set_state({"elapsed": np.zeros(2, dtype=np.int64)})


@each_family
def test_rewards_are_the_formula_and_the_sum_of_their_terms(name):
    family, formula = distribution(name), REWARDS[name]
    env = copies(name, 3)
    env.reset(seed=0)
    simulation = family.simulation(env.tasks, 1)
    simulation.reset(np.ones(3, dtype=bool), [seeding.np_random(seed)[0] for seed in range(3)])
    for a in draw_actions(name, 4, 3):
        _, rewards, terminations, _, infos = env.step(a)
        assert not terminations.any()
        simulation.step(a.astype(np.float64))
        outcomes = simulation.outcomes(simulation.observe())
        expected = [formula(env.tasks[i], a[i], outcomes[i]) for i in range(3)]
        np.testing.assert_allclose(rewards, expected, rtol=1e-12, atol=1e-12)
        terms = family.reward_terms(env.tasks, a, outcomes)
        assert set(infos) == {*terms, *(f"_{term}" for term in terms)}
        np.testing.assert_array_equal(sum(infos[term] for term in terms), rewards)
        np.testing.assert_array_equal(family.reward(env.tasks, a, outcomes), rewards)
        assert all(infos[f"_{term}"].all() for term in terms)


@each_family
def test_reward_broadcasts_tasks_over_transitions(name):
    family, rng = distribution(name), np.random.default_rng(0)
    tasks = family.sample_tasks(4, rng)
    outcomes = rng.normal(size=(3, 5, {"HalfCheetahVel": 1, "WalkerParam": 1, "HopperParam": 1}.get(name, 2)))
    a = rng.uniform(-1, 1, size=(3, 5, family.action_dim)).astype(np.float32)
    rewards = family.reward(tasks[:, None, None], a, outcomes)
    assert rewards.shape == (4, 3, 5) and rewards.dtype == np.float64
    for i, j, t in np.ndindex(4, 3, 5):
        expected = REWARDS[name](tasks[i], a[j, t], outcomes[j, t])
        alone = family.reward(tasks[i : i + 1], a[j, t : t + 1], outcomes[j, t : t + 1])
        np.testing.assert_allclose([rewards[i, j, t], alone[0]], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", TOLD_BY_STATES)
def test_stored_transitions_tell_the_reward(name):
    family = distribution(name)
    env = copies(name, 3)
    s, _ = env.reset(seed=0)
    for a in draw_actions(name, 10, 3):
        s_next, rewards, *_ = env.step(a)
        outcomes = family.observed_outcomes(s[None], s_next[None])  # any leading axes
        np.testing.assert_array_equal(family.reward(env.tasks, a, outcomes)[0], rewards)
        s = s_next


@pytest.mark.parametrize("name", [name for name in DISTRIBUTIONS if name not in TOLD_BY_STATES])
def test_stored_transitions_of_robots_are_refused(name):
    s, s_next = np.zeros((2, 3, distribution(name).observation_dim), dtype=np.float32)
    with pytest.raises(ValueError, match=rf"^{name}: .*stored transitions do not tell it$"):
        distribution(name).observed_outcomes(s, s_next)


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
    actions = draw_actions(name, 12, 2)
    env = copies(name, 2)
    env.reset(seed=0)
    expected = trajectory(env, actions)
    start, _ = env.reset(seed=0)
    start[:] = np.nan
    for step, a in enumerate(actions):
        sent = a.copy()
        *results, infos = env.step(a)
        np.testing.assert_array_equal(a, sent)
        assert_same(results, expected.steps(step))
        for array in (*results, *infos.values(), *env.get_state().values()):
            array[:] = 1


@each_family
def test_actions_are_clipped(name):
    family = distribution(name)
    env = copies(name, 2)
    env.reset(seed=0)
    loud = trajectory(env, np.full((5, 2, family.action_dim), 7.0))
    env.reset(seed=0)
    assert_same(loud, trajectory(env, np.ones((5, 2, family.action_dim), dtype=np.float32)))


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
