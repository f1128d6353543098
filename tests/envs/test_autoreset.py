"""Gymnasium's three autoreset modes: the vector environment does what SyncVectorEnv does with single ones."""

import functools

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from mbml_lightning.envs import DISTRIBUTIONS, TaskEnv, TaskVectorEnv, distribution


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


def age(env, steps_left):
    """Put the running episodes so many steps before the horizon."""
    state = env.get_state()
    state["elapsed"][:] = env.distribution.horizon - steps_left
    env.set_state(state)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
def test_autoreset_equals_gymnasiums(name, mode):
    family, n = distribution(name), 3
    tasks = family.tasks("train")[:n]
    env = TaskVectorEnv(family, tasks, autoreset_mode=mode)
    reference = SyncVectorEnv([functools.partial(TaskEnv, name, task) for task in tasks], autoreset_mode=mode)
    assert env.metadata["autoreset_mode"] is mode
    rng = np.random.default_rng(0)
    ends = np.zeros((2, n), dtype=int)
    for episode in range(2):
        assert_same(env.reset(seed=episode)[0], reference.reset(seed=episode)[0])
        for one in (env, *(single.copies for single in reference.envs)):
            age(one, 10)
        for step in range(25):
            if step == 5:  # from here on the copies' episodes end at different steps
                mask = np.array([False, True, False])
                ours, theirs = (e.reset(options={"reset_mask": mask.copy()}) for e in (env, reference))
                assert_same(ours[0], theirs[0])
            if step % 5 == 0:  # kept a while, so that walkers and hoppers fall before their horizon
                actions = rng.uniform(-1.0, 1.0, size=(n, family.action_dim)).astype(np.float32)
            ours, theirs = env.step(actions), reference.step(actions)
            for mine, its in zip(ours, theirs, strict=True):
                assert_same(mine, its)
            ends += ours[2:4]
    assert (ends.sum(axis=0)[[0, 2]] >= 2).all()
    if name in ("WalkerParam", "HopperParam"):
        assert ends.any(axis=1).all()  # falls and truncations
