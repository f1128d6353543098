"""Gymnasium's three autoreset modes: the vector environment does what SyncVectorEnv does with single ones."""

import functools
from typing import ClassVar

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from mbml_lightning.envs import DISTRIBUTIONS, PointGoal, TaskEnv, TaskVectorEnv, distribution
from mbml_lightning.envs.point import PointSimulation


class Cliff(PointSimulation):
    """A point that falls off where x > 0.3."""

    def terminated(self, next_observations):
        return next_observations[:, 0] > 0.3


class PointOnCliff(PointGoal):
    """A family whose episodes end in both ways."""

    name: ClassVar[str] = "PointOnCliff"

    def simulation(self, tasks, num_threads):
        return Cliff(tasks)


@pytest.fixture(params=[*DISTRIBUTIONS, "PointOnCliff"])
def name(request, monkeypatch):
    monkeypatch.setitem(DISTRIBUTIONS, "PointOnCliff", PointOnCliff())
    return request.param


def assert_same(ours, reference):
    """Nested infos and arrays of objects included."""
    if isinstance(reference, dict):
        assert set(ours) == set(reference)
        for key in reference:
            assert_same(ours[key], reference[key])
    elif isinstance(reference, np.ndarray) and reference.dtype == object:
        assert [item is None for item in ours] == [item is None for item in reference]
        for mine, its in zip(ours, reference, strict=True):
            np.testing.assert_array_equal(mine, its)
    else:
        np.testing.assert_array_equal(ours, reference)
        assert ours.dtype == reference.dtype


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_equals_gymnasiums(name, mode):
    family, n = distribution(name), 3
    tasks = family.tasks("train")[:n]
    env = TaskVectorEnv(family, tasks, autoreset_mode=mode)
    reference = SyncVectorEnv([functools.partial(TaskEnv, name, task) for task in tasks], autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is mode
    assert_same(env.reset(seed=3)[0], reference.reset(seed=3)[0])
    rng = np.random.default_rng(0)
    ends = np.zeros((2, n), dtype=int)
    for step in range(2 * family.horizon + 10):
        if step == 7:  # from here on the copies' episodes end at different steps
            mask = np.array([False, True, False])
            ours, theirs = (e.reset(options={"reset_mask": mask.copy()}) for e in (env, reference))
            assert_same(ours[0], theirs[0])
        actions = rng.uniform(-0.6, 1.0, size=(n, family.action_dim)).astype(np.float32)
        ours, theirs = env.step(actions), reference.step(actions)
        for mine, its in zip(ours, theirs, strict=True):
            assert_same(mine, its)
        ends += ours[2:4]
    assert (ends[1 if name in ("UmazeGoalM", "PointGoal") else 0] >= 2).all()


def test_a_terminal_state_is_no_truncation_and_wants_a_reset(monkeypatch):
    env = TaskVectorEnv(PointOnCliff(), [[1.0, 0.0], [1.0, 0.0]], autoreset_mode="Disabled")
    env.reset(seed=0)
    actions = np.array([[1.0, 0.0], [-1.0, 0.0]])
    while True:
        observations, _, terminations, truncations, _ = env.step(actions)
        assert not truncations.any() and terminations.tolist() == [observations[0, 0] > 0.3, False]
        if terminations.any():
            break
    with pytest.raises(RuntimeError, match=r"copies \[0\]"):
        env.step(actions)
    env.reset(options={"reset_mask": terminations})
    env.step(actions)
