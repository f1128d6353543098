"""PointGoal: its dynamics in closed form, and that its goals are worth going to."""

import numpy as np

from mbml_lightning.envs import DISTRIBUTIONS, TaskVectorEnv

POINT = DISTRIBUTIONS["PointGoal"]


def test_positions_are_the_sum_of_the_actions():
    env = TaskVectorEnv(POINT, POINT.tasks("train"), autoreset_mode="Disabled")
    start, _ = env.reset(seed=0)
    assert 0 < np.abs(start).max() <= 0.05
    actions = np.random.default_rng(0).uniform(-1, 1, size=(20, 5, 2))
    observations = np.stack([env.step(a)[0] for a in actions])
    np.testing.assert_allclose(observations, start + 0.1 * np.cumsum(actions, axis=0), atol=1e-6)


def test_every_goal_is_reached_within_half_the_horizon():
    goals = np.concatenate([POINT.tasks(split) for split in POINT.splits])
    env = TaskVectorEnv(POINT, goals, autoreset_mode="Disabled")
    observations, _ = env.reset(seed=0)
    rewards = []
    for _ in range(POINT.horizon):
        observations, reward, *_ = env.step((goals - observations) / 0.1)
        rewards.append(reward)
    rewards = np.array(rewards)
    assert np.abs(rewards[11:]).max() < 1e-6 and rewards.max() <= 0
    assert (np.diff(rewards, axis=0) > -1e-6).all()  # each step towards the goal pays
    assert (rewards.sum(axis=0) > -6).all()


def test_going_to_the_right_goal_pays_more_than_to_any_other():
    goals = POINT.tasks("train")
    env = TaskVectorEnv(POINT, np.repeat(goals, 5, axis=0), autoreset_mode="Disabled")
    targets = np.tile(goals, (5, 1))
    observations, _ = env.reset(seed=[0] * 25)
    returns = np.zeros(25)
    for _ in range(POINT.horizon):
        observations, reward, *_ = env.step((targets - observations) / 0.1)
        returns += reward
    np.testing.assert_array_equal(returns.reshape(5, 5).argmax(axis=1), np.arange(5))
