"""Collection: what is kept of it, and its learning curve."""

from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mbml_lightning.data.online import OnlineDataModule, episode_returns
from mbml_lightning.envs import distribution
from mbml_lightning.errors import StoreError
from mbml_lightning.files.store import read_store


@given(st.lists(st.tuples(st.floats(-5, 5, width=32), st.sampled_from(["goes on", "ended", "time is up"])), min_size=1))
def test_episode_returns_sum_each_finished_episode(steps):
    expected, total = [], 0.0
    for reward, what in steps:
        total += reward
        if what != "goes on":
            expected.append(total)
            total = 0.0
    rewards = np.array([reward for reward, _ in steps], np.float32)
    ended, time_is_up = (np.array([what == word for _, what in steps]) for word in ("ended", "time is up"))
    assert episode_returns(rewards, ended, time_is_up) == pytest.approx(expected, abs=1e-9)


def test_collections_of_different_seeds_begin_in_different_states():
    """Seeds used to be counted on, so that seed 50 began as seed 0 did fifty episodes later."""
    begun = set()
    for seed in (0, 5, 50):
        data = OnlineDataModule("nowhere/data", "PointGoal", 200, 200, num_tasks=2, seed=seed)
        data.setup("fit")
        data.env = Mock(reset=Mock(return_value=[np.zeros((2, data.distribution.observation_dim))]))
        for _ in range(60):
            data._reset(np.ones(2, bool))
        begun |= {number for call in data.env.reset.call_args_list for number in call.kwargs["seed"]}
    assert len(begun) == 3 * 60 * 2


def test_the_store_holds_what_was_collected(experiment):
    store = read_store(experiment / "sac/seed-0/data", distribution="PointGoal")
    family = distribution("PointGoal")
    for record, task in zip(store.tasks, family.tasks("train"), strict=True):
        f = record.fields
        assert len(f["rewards"]) == 200
        np.testing.assert_allclose(record.task, np.atleast_1d(task))
        outcomes = family.observed_outcomes(f["observations"], f["next_observations"])
        expected = family.reward(task, f["actions"], outcomes)
        np.testing.assert_allclose(f["rewards"], expected, rtol=1e-6)
        assert np.flatnonzero(f["truncations"]).tolist() == list(range(19, 200, 20))
        assert not f["terminations"].any()
        same_episode = ~f["truncations"][:-1]
        np.testing.assert_array_equal(f["next_observations"][:-1][same_episode], f["observations"][1:][same_episode])
        assert not (f["next_observations"][:-1] == f["observations"][1:]).all(1)[~same_episode].any()
        curve = record.collector["episode_returns"]
        assert curve == pytest.approx([f["rewards"][i : i + 20].sum() for i in range(0, 200, 20)], rel=1e-5)


class Told:
    """Acts by z alone, and remembers it."""

    noise_dim = 1

    def act(self, observations, z, noise):
        self.z = z
        return z[..., :2].expand(*observations.shape[:2], 2)


def test_any_policy_collects_with_a_task_identity(tmp_path):
    """As the collection with the multi-task policy on new tasks needs it."""
    data = OnlineDataModule(str(tmp_path / "data"), "PointGoal", interactions=30, capacity=30, num_tasks=3)
    data.setup("fit")
    z, policy = torch.tensor([[0.5, -0.5, 9.0], [0.1, 0.2, 9.0], [-1.0, 1.0, 9.0]]).unsqueeze(1), Told()
    returns = data.collect(policy, 30, z)
    assert policy.z is z
    assert data.rows.count == 30 and len(returns) == 3  # an episode has 20 steps
    collected = data.rows.unpack(data.rows.packed)
    assert torch.equal(collected.actions, z[..., :2].expand(3, 30, 2))
    assert returns == pytest.approx(collected.rewards[:, :20].sum(1).tolist(), rel=1e-5)


def test_a_replay_that_no_longer_fits_is_refused(tmp_path):
    """As when a run resumes with a smaller budget than it has collected."""
    data = OnlineDataModule(str(tmp_path / "data"), "PointGoal", interactions=10, capacity=30, num_tasks=3)
    data.setup("fit")
    with pytest.raises(StoreError, match=r"replay\.f32: holds 40 steps, data\.capacity is 30: raise it"):
        data.load_state_dict({"steps": 40, "sha256": "", "tasks": {}})
