"""Collection: what is kept of it, and its learning curve."""

from itertools import chain
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

STEPS = st.tuples(st.floats(-5, 5, width=32), st.sampled_from(["goes on", "ended", "time is up"]))


@given(st.integers(1, 3).flatmap(lambda m: st.lists(st.lists(STEPS, min_size=m, max_size=m), min_size=1)))
def test_episode_returns_sum_each_finished_episode_of_each_copy(steps):
    copies = len(steps[0])
    expected, totals = [], [0.0] * copies
    for vector_step in steps:
        for copy, (reward, what) in enumerate(vector_step):
            totals[copy] += reward
            if what != "goes on":
                expected.append(totals[copy])
                totals[copy] = 0.0
    rows = [step for vector_step in steps for step in vector_step]
    rewards = np.array([reward for reward, _ in rows], np.float32)
    ended, time_is_up = (np.array([what == word for _, what in rows]) for word in ("ended", "time is up"))
    assert episode_returns(rewards, ended, time_is_up, copies) == pytest.approx(expected, abs=1e-9)


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


class Recorded:
    """Acts by its noise, and notes what it was told."""

    noise_dim = 2

    def __init__(self):
        self.calls = []

    def act(self, observations, z, noise):
        self.calls.append((observations.clone(), noise.clamp(-1, 1)))
        return noise.clamp(-1, 1)


def collected(folder, copies, steps, **options):
    data = OnlineDataModule(str(folder / "data"), "PointGoal", 10, copies * steps, copies=copies, **options)
    data.setup("fit")
    torch.manual_seed(0)
    policy = Recorded()
    return data, policy, data.collect(policy, steps)


def test_copies_are_environments_of_the_same_task_whose_steps_are_interleaved(tmp_path):
    data, policy, returns = collected(tmp_path, copies=2, steps=45, num_tasks=3)
    rows, family = data.rows.unpack(data.rows.packed), data.distribution
    assert data.rows.count == 90 and len(policy.calls) == 45
    for t, (s, a) in enumerate(policy.calls):
        now = slice(2 * t, 2 * t + 2)
        assert torch.equal(rows.observations[:, now], s) and torch.equal(rows.actions[:, now], a)
    for k, task in enumerate(family.tasks("train")[:3]):
        for c in range(2):
            own = rows.map(lambda x, k=k, c=c: x[k, c::2])
            outcomes = family.observed_outcomes(own.observations.numpy(), own.next_observations.numpy())
            np.testing.assert_allclose(own.rewards, family.reward(task, own.actions.numpy(), outcomes), rtol=1e-5)
            truncations = data.truncations[k, c::2]
            assert truncations.nonzero().flatten().tolist() == [19, 39]  # an episode has 20 steps
            goes_on = ~truncations[:-1]
            assert torch.equal(own.next_observations[:-1][goes_on], own.observations[1:][goes_on])
    first = rows.observations[:, [0, 1, 40, 41]].flatten(0, 1)  # of two episodes of two copies of three tasks
    assert len(first.unique(dim=0)) == 12
    curves = [episode_returns(*(x[k].numpy() for x in (rows.rewards, rows.terminations > 0, data.truncations)), 2)
              for k in range(3)]  # fmt: skip
    assert sorted(returns) == pytest.approx(sorted(chain(*curves)), rel=1e-5)


def test_the_first_copy_is_the_environment_of_a_collection_with_one(tmp_path):
    one, _, _ = collected(tmp_path, copies=1, steps=20, num_tasks=3)
    two, _, _ = collected(tmp_path, copies=2, steps=20, num_tasks=3)
    assert torch.equal(one.rows.states[:, 0], two.rows.states[:, 0])


def test_the_store_says_how_many_copies_are_interleaved(tmp_path):
    data, _, _ = collected(tmp_path, copies=2, steps=45, num_tasks=3)
    data.write_store(tmp_path / "data", {"method": "SAC"})
    store = read_store(tmp_path / "data", distribution="PointGoal")
    for k, record in enumerate(store.tasks):
        assert record.collector["copies"] == 2 and len(record.fields["rewards"]) == 10
        np.testing.assert_array_equal(record.fields["rewards"], data.rows.unpack(data.rows.packed).rewards[k, :10])


@pytest.mark.parametrize(
    ("interactions", "capacity", "named"), [(9, 20, "interactions is 9"), (10, 21, "capacity is 21")]
)
def test_amounts_that_copies_cannot_share_are_refused(tmp_path, interactions, capacity, named):
    data = OnlineDataModule(str(tmp_path / "data"), "PointGoal", interactions, capacity, copies=2)
    with pytest.raises(StoreError, match=rf"data\.{named}, but must be a multiple of data\.copies, 2"):
        data.setup("fit")


def test_a_collection_goes_on_with_its_copies_only_and_in_the_same_states(tmp_path):
    whole, _, _ = collected(tmp_path / "whole", copies=2, steps=50, num_tasks=3)
    begun, _, _ = collected(tmp_path, copies=2, steps=30, num_tasks=3)
    state = begun.state_dict()
    again = OnlineDataModule(str(tmp_path / "data"), "PointGoal", 10, 100, num_tasks=3, copies=2)
    again.setup("fit")
    again.load_state_dict(state)
    torch.manual_seed(0)
    for _ in range(30):
        torch.randn(3, 2, 2)
    again.collect(Recorded(), 20)
    assert torch.equal(again.rows.packed, whole.rows.packed)
    other = OnlineDataModule(str(tmp_path / "data"), "PointGoal", 10, 100, num_tasks=3, copies=1)
    other.setup("fit")
    with pytest.raises(StoreError, match=r"is of 2 copies a task: set data\.copies, 1, to that"):
        other.load_state_dict(state)


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
    assert torch.equal(policy.z, z)
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
