"""The tasks of a run are those of its store: training, evaluation, relabelling and reports use them, or refuse them."""

import json
import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import command

import mbml_lightning
from mbml_lightning import envs
from mbml_lightning.cli.main import main
from mbml_lightning.data.card import card
from mbml_lightning.data.offline import OfflineDataModule
from mbml_lightning.data.relabelling import OracleRelabeller
from mbml_lightning.errors import StoreError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.store import TaskRecord, read_store
from mbml_lightning.files.store_writing import write_store
from mbml_lightning.results.normalisation import reference

OWN = [[0.3, 0.9], [-0.8, 0.4], [0.0, -1.0]]
FEW = ["--evaluation.trials=2"]


@pytest.fixture(scope="module")
def stores(experiment, tmp_path_factory):
    """The experiment's store, one with its tasks in reverse order, and one of three goals of a user's own."""
    folder = tmp_path_factory.mktemp("stores")
    whole = read_store(experiment / "sac/seed-0/data")
    about = {key: whole.meta[key] for key in ("env_id", "distribution", "split", "collector")}
    reverse = [TaskRecord(i, r.task, r.fields) for i, r in enumerate(whole.tasks[::-1])]
    own = [TaskRecord(i, goal, rewarded(whole.tasks[i].fields, goal)) for i, goal in enumerate(OWN)]
    for name, records in {"straight": whole.tasks, "reverse": reverse, "own": own}.items():
        write_store(folder / name, records, **about)
    return folder


def rewarded(fields, goal):
    rewards = -np.hypot(*(fields["next_observations"] - np.array(goal, np.float32)).T)
    return dict(fields) | {"rewards": rewards.astype(np.float32)}


def written(folder: Path, like: Path, **changes) -> Path:
    """A store in which some fields, or the task, of task 1 are changed."""
    store = read_store(like)
    about = {key: store.meta[key] for key in ("env_id", "distribution", "split", "collector")}
    records = list(store.tasks)
    fields = {n: np.array(a) for n, a in records[1].fields.items()} | {n: x for n, x in changes.items() if n != "task"}
    records[1] = TaskRecord(1, changes.get("task", records[1].task), fields)
    write_store(folder / "changed", records, **about)
    return folder / "changed"


def test_a_store_in_reverse_order_is_trained_and_evaluated_in_its_order(stores, tmp_path):
    found = {}
    for name in ("straight", "reverse"):
        run = ["--data.store", f"{stores}/{name}", "--run", f"{tmp_path}/{name}", "--evaluation.uncounted=0"]
        main(
            [
                *command("bcq", tmp_path, *run, "--evaluation.trials=20"),
                "--trainer.max_steps=300",
                "--scale.bcq_lr=3e-3",
            ]
        )
        split = Evaluation.load(tmp_path / name / "evaluation.json").splits["train"]
        found[name] = (split.tasks, split.returns.mean((1, 2)))
    assert found["reverse"][0] == found["straight"][0][::-1]
    straight, mirrored = found["straight"][1], found["reverse"][1][::-1]
    # the same tasks have about the same returns, which those against each other's tasks have not
    assert np.abs(straight - mirrored).mean() < 0.5 * np.abs(straight - mirrored[::-1])[[0, 1, 3, 4]].mean()


@pytest.fixture(scope="module")
def own_run(stores, tmp_path_factory):
    """MBML and what it needs on three goals of a user's own; no file says that they are three."""
    folder = tmp_path_factory.mktemp("own")
    data = ["--data.store", f"{stores}/own", *FEW]
    for phase in ("bcq", "reward_ensemble", "mbml"):
        main(command(phase, folder, *data))
    return folder


def test_own_goals_are_learned_and_evaluated(own_run):
    for phase in ("bcq", "mbml"):
        evaluation = Evaluation.load(own_run / phase / "seed-0/evaluation.json")
        assert evaluation.splits["train"].tasks == OWN
        assert evaluation.splits["train"].returns.shape[0] == 3
    assert len(evaluation.splits["test"].tasks) == 4
    assert Checkpoint.read(own_run / "mbml/seed-0/last.ckpt").record["tasks"] == OWN


def test_episodes_are_rewarded_for_the_own_goals(own_run):
    run = own_run / "mbml/seed-0"
    evaluation = Evaluation.load(run / "evaluation.json")
    with np.load(run / "trajectories.npz") as paths:
        s = paths["train"][:, :, 1:]  # (task, episode, step, 2)
    rewards = -np.linalg.norm(s - np.array(OWN)[:, None, None], axis=-1).sum(-1)
    np.testing.assert_allclose(evaluation.splits["train"].returns[:, 0], rewards, rtol=1e-5)


def test_a_run_on_own_goals_is_validated_resumed_and_loaded(own_run, stores):
    run = own_run / "mbml/seed-0"
    main(["validate", "-c", f"{run}/config.yaml", "--ckpt_path", f"{run}/last.ckpt", "--evaluation.splits=[ood]"])
    assert list(Evaluation.load(run / "evaluation.json").splits) == ["train", "test", "ood"]
    words = command("mbml", own_run, f"--data.store={stores}/own", *FEW, "--ckpt_path=last", "--trainer.max_steps=40")
    main(words)
    assert Checkpoint.read(run / "last.ckpt").content["global_step"] == 40
    assert mbml_lightning.load(run).act(np.zeros(2)).shape == (2,)


def test_fewer_tasks_than_the_store_holds_are_its_first(stores, tmp_path):
    main(command("bcq", tmp_path, "--data.store", f"{stores}/own", "--model.num_tasks=2", *FEW))
    assert Evaluation.load(tmp_path / "bcq/seed-0/evaluation.json").splits["train"].tasks == OWN[:2]


def test_more_tasks_than_the_store_holds_are_refused(stores, tmp_path):
    with pytest.raises(SystemExit, match=r"model\.num_tasks is 4, but must be at most 3, as in data\.store"):
        main(command("bcq", tmp_path, "--data.store", f"{stores}/own", "--model.num_tasks=4"))


def test_true_rewards_are_those_of_the_own_goals(stores):
    data = OfflineDataModule(f"{stores}/own", "PointGoal")
    data.setup("fit")
    np.testing.assert_array_equal(data.tasks, OWN)
    rows, oracle = data.rows, OracleRelabeller()
    oracle.prepare(rows, "PointGoal")
    t = rows.unpack(rows.packed)
    index = torch.arange(rows.count).expand(3, -1)
    rewards = oracle(t, index).rewards
    for i, goal in enumerate(OWN):
        for j in range(3):
            expected = -(t.next_observations[j].double() - torch.tensor(goal, dtype=torch.float64)).norm(dim=-1)
            torch.testing.assert_close(rewards[i, j].double(), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(rewards.diagonal().T, t.rewards, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("task", "said"),
    [
        ([1.0, 0.0, 0.0, 1.0], "cannot reshape array of size 4"),
        ([9.0, 0.0], r"task 1 is \[9.0, 0.0\], expected a goal"),
    ],
)
def test_tasks_that_are_not_of_the_distribution_are_refused(stores, tmp_path, task, said):
    with pytest.raises(StoreError, match=rf"not of PointGoal \(.*{said}"):
        OfflineDataModule(str(written(tmp_path, stores / "straight", task=task)), "PointGoal").read()


@pytest.mark.parametrize("row", [0, 150])
def test_actions_outside_their_range_are_refused_with_file_and_row(stores, tmp_path, row):
    actions = np.array(read_store(stores / "straight").tasks[1].fields["actions"])
    actions[row] = [0.5, -5.0]
    folder = written(tmp_path, stores / "straight", actions=actions)
    with pytest.raises(
        StoreError, match=rf"task-01/actions\.npy: actions in row {row} reach 5, but must lie in \[-1, 1\]"
    ):
        OfflineDataModule(str(folder), "PointGoal").read()


def test_rounding_of_actions_is_let_through(stores, tmp_path):
    actions = np.array(read_store(stores / "straight").tasks[1].fields["actions"])
    actions[3] = np.nextafter(np.float32(1), np.float32(2))
    OfflineDataModule(str(written(tmp_path, stores / "straight", actions=actions)), "PointGoal").read()


def remarks(folder: Path, name: str = "PointGoal") -> list[str]:
    return card(read_store(folder), envs.distribution(name)).remarks


@pytest.mark.parametrize("value", [0.0, -0.0, 1.5])
def test_rewards_that_are_all_equal_are_said(stores, tmp_path, value):
    rewards = np.full(200, value, np.float32)
    if value == 0:
        rewards[::2] = 0.0  # 0.0 and -0.0 are equal
    folder = written(tmp_path, stores / "straight", rewards=rewards)
    assert remarks(folder) == [f"all rewards are equal in tasks [1] ({abs(value):.4g})"]


def test_data_without_any_end_of_an_episode_are_said(stores, tmp_path):
    store = read_store(stores / "straight")
    about = {key: store.meta[key] for key in ("env_id", "distribution", "split", "collector")}
    never = {"truncations": np.zeros(200, bool), "terminations": np.zeros(200, bool)}
    write_store(
        tmp_path / "s", [TaskRecord(r.task_index, r.task, dict(r.fields) | never) for r in store.tasks], **about
    )
    assert remarks(tmp_path / "s") == ["no transition is marked as the end of an episode (terminations, truncations)"]


def test_observations_of_another_scale_are_said_with_their_dimension(stores, tmp_path, caplog):
    states = np.array(read_store(stores / "straight").tasks[1].fields["observations"])
    states[:, 1] *= 1000
    folder = written(tmp_path, stores / "straight", observations=states)
    (remark,) = remarks(folder)
    assert "in dimension 1 of task 1, but from " in remark and remark.endswith("another scale or order?")
    with caplog.at_level(logging.WARNING):
        OfflineDataModule(str(folder), "PointGoal").setup("fit")
    assert f"{folder}: {remark}" in caplog.text


def test_nothing_is_said_of_data_that_are_as_they_should_be(stores):
    assert remarks(stores / "straight") == remarks(stores / "own") == []


def test_a_card_tells_what_a_store_holds(stores):
    store = read_store(stores / "own")
    found = card(store, envs.distribution("PointGoal"))
    assert [task.task for task in found.tasks] == OWN
    for task, record in zip(found.tasks, store.tasks, strict=True):
        rewards = record.fields["rewards"].astype(float)
        assert task.rewards == pytest.approx((rewards.min(), rewards.mean(), rewards.max()))
        ends = np.flatnonzero(record.fields["truncations"]) + 1
        assert task.returns == pytest.approx([part.sum() for part in np.split(rewards, ends)[: len(ends)]])
    first, *lines = found.lines()
    assert first == f"PointGoal: 3 tasks of 200 transitions, {store.digest[:12]}"
    assert lines[0].startswith("  0 [0.3, 0.9]: reward -") and "10 episodes, return -" in lines[0]


def test_collectors_of_other_tasks_are_refused(own_run, experiment, stores):
    sac = f"--evaluation.collectors={json.dumps({'train': f'{experiment}/sac/seed-0/last.ckpt'})}"
    words = ["validate", "-c", f"{own_run}/mbml/seed-0/config.yaml", f"--ckpt_path={own_run}/mbml/seed-0/last.ckpt"]
    with pytest.raises(SystemExit, match="SAC's actors are not of the train tasks that are evaluated"):
        main([*words, "--evaluation.protocols=[offline-own]", "--evaluation.splits=[train]", sac])


def test_own_goals_have_no_references_and_are_not_compared_with_others(own_run, experiment, tmp_path, capsys):
    assert reference("PointGoal", "train", OWN) is None
    assert reference("PointGoal", "train", envs.distribution("PointGoal").tasks("train").tolist()) is not None
    shutil.copytree(experiment / "mbml", tmp_path / "mbml")
    shutil.copytree(own_run / "mbml/seed-0", tmp_path / "neither/seed-0")
    main(["report", str(tmp_path)])
    told = capsys.readouterr().out
    assert "neither/seed-0/evaluation.json: the train tasks are not those of the first evaluation; left out" in told


def test_a_checkpoint_of_before_tasks_were_recorded_is_of_official_ones():
    distribution = envs.distribution("PointGoal")
    np.testing.assert_array_equal(distribution.recorded_tasks({}, "train", 3), distribution.tasks("train")[:3])
    np.testing.assert_array_equal(distribution.recorded_tasks({"tasks": OWN}, "train", 3), OWN)
