"""The evaluation callback: its chunks, their merging, and the same scores on one rank and on two."""

import csv
import os
import subprocess
import sys

import lightning as L
import numpy as np
import pytest
import torch
from commands import ROOT, command

from mbml_lightning import envs
from mbml_lightning.algorithms import BCQ, MBML
from mbml_lightning.cli.main import main
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.evaluation.adaptation import Adaptation
from mbml_lightning.evaluation.contexts import PROTOCOLS
from mbml_lightning.evaluation.trials import merge
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import Evaluation, file_name, load_trajectories
from mbml_lightning.training.evaluation import OnlineEvaluation
from mbml_lightning.training.per_task import PerTask

SMALL = dict(hidden=[4], vae_hidden=[4])
NAMES = [protocol.name for protocol in PROTOCOLS]


@pytest.mark.parametrize("trials", [1, 3, 8])
@pytest.mark.parametrize("copies", [1, 4, 16, 1000])
@pytest.mark.parametrize("method", [BCQ("PointGoal", **SMALL), MBML("PointGoal", "teachers.ckpt")])
def test_chunks_cover_every_pair_once(trials, copies, method):
    evaluator = OnlineEvaluation("nowhere", copies=copies)
    pairs = [(c.split, k, b) for c in evaluator.chunks(method, trials) for k in c.tasks for b in c.trials]
    tasks = {"train": range(5)} if isinstance(method, PerTask) else {"train": range(5), "test": range(4)}
    assert sorted(pairs) == sorted((split, k, b) for split in tasks for k in tasks[split] for b in range(trials))


@pytest.mark.parametrize("method", [BCQ("PointGoal", **SMALL), MBML("PointGoal", "teachers.ckpt")])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_merging_restores_the_order_whatever_the_ranks(method, world_size):
    chunks = OnlineEvaluation("nowhere", copies=10).chunks(method, trials=4)

    def result(chunk):
        returns = [[[100.0 * k + 10 * b + e for e in range(3)] for b in chunk.trials] for k in chunk.tasks]
        observations = [[[[k, e]] for e in range(3)] for k in chunk.tasks]
        return Adaptation(np.array(returns), np.array(observations, np.float32))

    by_rank = [(c, result(c)) for rank in range(world_size) for c in chunks[rank::world_size]]
    merged = merge(by_rank)
    for split, adaptation in merged.items():
        tasks = len(method.distribution.tasks(split))
        expected = [[[100.0 * k + 10 * b + e for e in range(3)] for b in range(4)] for k in range(tasks)]
        assert adaptation.returns.tolist() == expected, split
        assert adaptation.observations[:, 0, 0, 0].tolist() == list(range(tasks))


def test_a_stack_acts_on_the_tasks_it_was_trained_on():
    method = BCQ("PointGoal", **SMALL)
    method.split = "ood"
    for splits in (["train", "test"], ["ood"]):
        assert {chunk.split for chunk in OnlineEvaluation("nowhere", splits).chunks(method, 8)} == {"ood"}
    assert not OnlineEvaluation("nowhere", []).chunks(method, 8)


@pytest.mark.parametrize("changes", [{"protocols": ["offline"]}, {"protocols": []}])
def test_what_cannot_be_evaluated_is_refused_at_once(changes):
    with pytest.raises(ConfigurationError, match=f"evaluation.{next(iter(changes))}"):
        OnlineEvaluation("nowhere", **changes)


CSV = ["--trainer.logger+=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=${run}"]


def validate(method, experiment, run, *more):
    """`mbml validate` of a method of the experiment, with two trials."""
    trained = experiment / method / "seed-0"
    weights = ["--ckpt_path", str(trained / "last.ckpt"), "--checkpoint.dirpath", str(trained)]
    words = command(method, experiment, "--run", str(run), *weights, "--evaluation.trials=2", *more)
    main(["validate", *words[1:]])


def logged_scores(run):
    """All that a validation sends to a logger of the user's; the log of the run is its training's."""
    assert not (run / "metrics.jsonl").exists()
    (table,) = run.rglob("metrics.csv")
    with table.open() as file:
        return {name: float(value) for line in csv.DictReader(file) for name, value in line.items() if value}


def test_every_protocol_leaves_its_files_and_scores(experiment, tmp_path):
    sac = torch.load(experiment / "sac/seed-0/last.ckpt", weights_only=True)
    tasks = [*envs.distribution("PointGoal").tasks("test").tolist(), [0.0, 1.0]]
    Checkpoint.seal(sac, sac["mbml"] | {"split": "test", "tasks": tasks})
    torch.save(sac, tmp_path / "test.ckpt")
    collectors = f"--evaluation.collectors.test={tmp_path}/test.ckpt"
    validate("mbml", experiment, tmp_path, f"--evaluation.protocols=[{','.join(NAMES)}]", collectors, *CSV)
    names = [file_name("evaluation.json", name) for name in NAMES]
    evaluations = [Evaluation.load(tmp_path / name) for name in names]
    assert [evaluation.protocol for evaluation in evaluations] == NAMES
    scores = logged_scores(tmp_path)
    for split in ("train", "test"):
        returns = [evaluation.splits[split].returns for evaluation in evaluations]
        assert len({array.tobytes() for array in returns}) == 4, "no two protocols are the same"
        for protocol, array in zip(NAMES, returns, strict=True):
            ending = "" if protocol == "prior-online" else f"_{protocol}"
            assert scores[f"val/return_{split}{ending}"] == pytest.approx(array[..., 2:].mean())
    for evaluation, name in zip(evaluations, names, strict=True):
        load_trajectories(tmp_path / name.replace("evaluation", "trajectories").replace("json", "npz"), evaluation)
    before = Evaluation.load(experiment / "mbml/seed-0/evaluation.json")
    np.testing.assert_array_equal(before.splits["test"].returns, evaluations[0].splits["test"].returns)


def test_the_first_protocol_speaks_where_the_paper_s_is_not_asked(experiment, tmp_path, monkeypatch):
    logged = {}
    monkeypatch.setattr(L.LightningModule, "log", lambda self, name, value, **_: logged.update({name: value}))
    protocols = "--evaluation.protocols=[random-first,offline-other]"
    validate("mbml", experiment, tmp_path, protocols)
    assert logged["val/return"] == logged["val/return_test_random-first"] != logged["val/return_test_offline-other"]
    assert not (tmp_path / "evaluation.json").exists()


def test_a_protocol_of_a_user_s_module_has_its_own_files_and_scores(experiment, tmp_path, monkeypatch):
    (tmp_path / "my_protocols.py").write_text(
        "from mbml_lightning.evaluation.contexts import RandomFirst\nclass Mine(RandomFirst):\n    name = 'mine'\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    validate("mbml", experiment, tmp_path, "--evaluation.protocols=[my_protocols.Mine,random-first]", *CSV)
    mine, ours = (Evaluation.load(tmp_path / f"evaluation-{name}.json") for name in ("mine", "random-first"))
    assert mine.protocol == "mine"
    np.testing.assert_array_equal(mine.splits["test"].returns, ours.splits["test"].returns)
    assert logged_scores(tmp_path)["val/return_test_mine"] == mine.splits["test"].returns[..., 2:].mean()


def test_methods_that_infer_no_task_are_evaluated_as_ever(experiment, tmp_path):
    validate("bcq", experiment, tmp_path, "--evaluation.protocols=[offline-own,offline-other]")
    assert [file.name for file in tmp_path.glob("evaluation*")] == ["evaluation.json"]


def test_missing_collectors_are_named_before_anything_is_acted(experiment, tmp_path):
    with pytest.raises(SystemExit) as stop:
        validate("mbml", experiment, tmp_path, "--evaluation.protocols=[prior-online,offline-own]")
    message = str(stop.value.code)
    assert f"{experiment}/sac_test/seed-0/last.ckpt" in message and "-c conf/split/test.yaml" in message
    assert len(message.splitlines()) == 1 and not list(tmp_path.glob("evaluation*"))


def test_two_ranks_report_the_scores_of_one(experiment, tmp_path):
    run = experiment / "mbml/seed-0"
    words = command("mbml", experiment, f"--run={tmp_path}", "--ckpt_path", str(run / "last.ckpt"))
    words = ["validate", *words[1:], "--evaluation.trials=2", "--evaluation.copies=4"]
    words.append("--evaluation.protocols=[prior-online,offline-other]")
    ranks = ["--trainer", str(ROOT / "conf/trainer/ddp.yaml"), "--trainer.accelerator=cpu", "--trainer.devices=2"]
    scores = []
    for more in ([], ranks):
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "mbml_lightning", *words, *more], check=True, env=env, timeout=240)
        files = (tmp_path / "evaluation.json", tmp_path / "evaluation-offline-other.json")
        splits = {(file.name, name): split for file in files for name, split in Evaluation.load(file).splits.items()}
        scores.append({name: split.returns for name, split in splits.items()})
        for file in files:
            file.unlink()
    assert scores[0].keys() == scores[1].keys() and len(scores[0]) == 4
    for name in scores[0]:
        np.testing.assert_array_equal(scores[0][name], scores[1][name])
