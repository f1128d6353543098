"""Collected, written and read again, outcomes tell what every task would have paid for every stored step."""

from pathlib import Path

import numpy as np
import pytest
import torch

from mbml_lightning.data.offline import OfflineDataModule
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.data.relabelling import OracleRelabeller
from mbml_lightning.envs import DISTRIBUTIONS, distribution
from mbml_lightning.envs.random_physics import RandomPhysics
from mbml_lightning.errors import RelabellingError, StoreError
from mbml_lightning.files.store import TaskRecord, read_store
from mbml_lightning.files.store_writing import write_store
from mbml_lightning.policies.gaussian import UniformPolicy

K, N = 3, 12
PHYSICS = [name for name, family in DISTRIBUTIONS.items() if isinstance(family, RandomPhysics)]
REWARDS = [name for name in DISTRIBUTIONS if name not in PHYSICS]
OPTIONS = [f"{name}+contact_forces=True" for name in ("AntDir", "AntGoal", "HumanoidDirM")]
OPTIONS += ["HalfCheetahVel+torso_position=False", "HumanoidDirM+velocity_per=dt"]


def online(name: str, folder: Path) -> OnlineDataModule:
    data = OnlineDataModule(str(folder / "data"), name, interactions=N, capacity=N, num_tasks=K)
    data.setup("fit")
    torch.manual_seed(0)
    return data


def write(data: OnlineDataModule) -> Path:
    data.write_store(Path(data.store), {"method": "random"})
    return Path(data.store)


def read(name: str, store: Path) -> OfflineDataModule:
    data = OfflineDataModule(str(store), name, num_tasks=K)
    data.setup("fit")
    return data


def collect(name: str, folder: Path) -> tuple[OfflineDataModule, np.ndarray]:
    """A store of random steps, and the outcomes (K, N, O) as the simulation measured them."""
    data, measured = online(name, folder), []
    for _ in range(N):
        data.collect(UniformPolicy(data.distribution.action_dim), 1)
        measured.append(data.env.outcomes.copy())
    return read(name, write(data)), np.stack(measured, 1)


@pytest.mark.parametrize("name", REWARDS + OPTIONS)
def test_every_task_is_asked_about_every_stored_step(name: str, tmp_path: Path) -> None:
    data, measured = collect(name, tmp_path)
    family, oracle, t = distribution(name), OracleRelabeller(), data.rows.unpack(data.rows.packed)
    oracle.prepare(data.rows, name)
    tasks, index = family.tasks("train"), torch.randint(N, (K, 5))
    contexts = data.rows.unpack(torch.stack([data.rows.packed[k, index[k]] for k in range(K)]))
    relabelled = oracle(contexts, index)
    for i, j, n in np.ndindex(K, K, N):
        a, outcomes = t.actions[j, n].double().numpy(), measured[j, n]
        expected = family.reward(tasks[i : i + 1], a[None], outcomes[None])[0]
        computed = oracle._table[i, j, n].item()
        assert computed == pytest.approx(expected, rel=1e-5, abs=1e-5)
        if i == j:
            assert computed == pytest.approx(t.rewards[j, n].item(), rel=1e-5, abs=1e-5), "what was collected"
    for i, j, c in np.ndindex(K, K, 5):
        source = contexts.rewards[j, c] if i == j else oracle._table[i, j, index[j, c]]
        assert relabelled.rewards[i, j, c] == source
        assert relabelled.kept[i, j, c] == (i != j)


@pytest.mark.parametrize("name", [*REWARDS, *OPTIONS, *PHYSICS])
def test_outcomes_are_kept_where_states_do_not_tell_the_reward(name: str, tmp_path: Path) -> None:
    data, measured = collect(name, tmp_path)
    s = np.zeros((1, data.rows.observation_dim), np.float32)
    try:
        distribution(name).observed_outcomes(s, s)
        needed = False
    except ValueError:
        needed = name not in PHYSICS
    assert (data.rows.outcomes is not None) == needed
    assert (Path(data.store) / "task-00/outcomes.npy").exists() == needed
    if needed:
        np.testing.assert_array_equal(data.rows.outcomes.numpy(), measured.astype(np.float32))


@pytest.mark.parametrize("name", PHYSICS)
def test_rewards_are_not_relabelled_where_the_physics_are_the_task(name: str, tmp_path: Path) -> None:
    data, _ = collect(name, tmp_path)
    with pytest.raises(RelabellingError, match=rf"^{name}: .*EnsembleRelabeller$"):
        OracleRelabeller().prepare(data.rows, name)


def finish(data: OnlineDataModule) -> list[dict[str, np.ndarray]]:
    data.collect(UniformPolicy(data.distribution.action_dim), N - data.rows.count)
    return [{name: np.array(x) for name, x in task.fields.items()} for task in read_store(write(data)).tasks]


@pytest.mark.parametrize("name", ["AntGoal", "HumanoidDirM+contact_forces=True"])
def test_a_collection_that_goes_on_keeps_the_same_outcomes(name: str, tmp_path: Path) -> None:
    data = online(name, tmp_path)
    data.collect(UniformPolicy(data.distribution.action_dim), 7)
    state, dice = data.state_dict(), torch.get_rng_state()
    whole = finish(data)
    data = online(name, tmp_path)
    data.load_state_dict(state)
    torch.set_rng_state(dice)
    for one, other in zip(whole, finish(data), strict=True):
        assert one.keys() == other.keys() and "outcomes" in one
        for field, values in one.items():
            np.testing.assert_array_equal(values, other[field], strict=True)


def spoil(store: Path, change) -> None:
    """Write the store again with other outcomes."""
    old, records = read_store(store), []
    for task in old.tasks:
        fields = {name: np.array(x) for name, x in task.fields.items() if name != "outcomes"}
        outcomes = change(task.task_index, np.array(task.fields["outcomes"]))
        records.append(
            TaskRecord(task.task_index, task.task, fields | ({} if outcomes is None else {"outcomes": outcomes}))
        )
    source = {key: old.meta[key] for key in ("env_id", "distribution", "split", "collector")}
    write_store(store, records, **source, overwrite=True)


def test_stores_without_outcomes_are_read_but_not_relabelled_by_true_rewards(tmp_path: Path) -> None:
    store = Path(collect("AntDir", tmp_path)[0].store)
    spoil(store, lambda _, outcomes: None)
    rows = read("AntDir", store).rows
    assert rows.outcomes is None
    with pytest.raises(RelabellingError, match=r"^AntDir: .*collect it again$"):
        OracleRelabeller().prepare(rows, "AntDir")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda _, x: x[:, :1], "1 outcomes a step, 2 are"),
        (lambda _, x: np.repeat(x, 2, 1), "4 outcomes a step, 2 are"),
        (lambda _, x: x[:-1], "outcomes has shape"),
        (lambda _, x: x[:, 0].copy(), "outcomes has shape"),
        (lambda k, x: x[:, : 1 + k % 2], "outcomes has shape"),
        (lambda _, x: x.astype(np.float64), "dtype float64"),
        (lambda _, x: np.where(np.arange(N)[:, None] == 5, np.nan, x).astype(np.float32), "row 5"),
        (lambda k, x: None if k else x, "field outcomes is missing or unknown"),
    ],
    ids=["narrow", "wide", "short", "flat", "uneven", "double", "nan", "only of one task"],
)
def test_outcomes_that_do_not_fit_are_refused(change, words: str, tmp_path: Path) -> None:
    store = Path(collect("AntDir", tmp_path)[0].store)
    with pytest.raises(StoreError, match=words) as caught:
        spoil(store, change)
        read("AntDir", store)
    assert "\n" not in str(caught.value)
