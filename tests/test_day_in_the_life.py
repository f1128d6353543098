"""A researcher's day at the terminal: nothing is lost, nothing mislabelled, and every message is true."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from commands import ROOT, command

from mbml_lightning import algorithms
from mbml_lightning.cli.main import main
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.store import read_store
from mbml_lightning.results.runs import read_experiment

FEW = ["--evaluation.trials=2", "--evaluation.trials_while_training=1"]
LASTING = ("last.ckpt", "evaluation.json", "trajectories.npz", "metrics.jsonl", "config.yaml")


class Day:
    """What stands on the disk by now, and must stand there in the evening."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys, self.kept = capsys, {}

    def said(self, *words: str) -> str:
        """Run a command; return all that it said."""
        self.capsys.readouterr()
        try:
            main(list(words))
        except SystemExit as stop:
            return "".join(self.capsys.readouterr()) + (stop.code if isinstance(stop.code, str) else "")
        return "".join(self.capsys.readouterr())

    def keep(self, run: Path) -> Path:
        """Note what a run has left."""
        self.kept |= {run / name: (run / name).read_bytes() for name in LASTING}
        return run

    def is_all_there(self) -> bool:
        """Whether every file of every run that was noted is as it was."""
        return all(path.read_bytes() == content for path, content in self.kept.items())

    def moved(self, old: Path, new: Path) -> None:
        """Follow a folder that the user moves."""
        shutil.move(old, new)
        self.kept = {new / path.relative_to(old): content for path, content in self.kept.items()}


def scores(run: Path) -> Evaluation:
    return Evaluation.load(run / "evaluation.json")


@pytest.fixture
def day(capsys):
    return Day(capsys)


def test_a_day(experiment, tmp_path, day, monkeypatch):
    folder = tmp_path / "work"
    for phase in ("sac", "bcq"):
        shutil.copytree(experiment / phase, folder / phase)
    data = [f"--data.store={folder}/sac/seed-0/data"]
    scale = tmp_path / "mine.yaml"
    shutil.copy(ROOT / "conf/scale/tiny.yaml", scale)
    fit = [*command("multi_task_bc", folder), "--scale", str(scale), *FEW, *data]

    # In the morning a run, and from what it has saved two more seeds.
    first = folder / "multi_task_bc/seed-0"
    assert f"in {first}/evaluation.json" in day.said(*fit)
    seeds = [day.keep(first)]
    for seed in (1, 2):
        said = day.said("fit", "-c", f"{first}/config.yaml", f"--seed_everything={seed}")
        seeds.append(day.keep(folder / f"multi_task_bc/seed-{seed}"))
        assert f"in {seeds[-1]}/evaluation.json" in said
    assert [scores(run).seed for run in seeds] == [0, 1, 2]
    assert len({Checkpoint.read(run / "last.ckpt").digest for run in seeds}) == 3
    assert "holds this run already, finished" in day.said(*fit)
    assert day.is_all_there()

    # A sweep of four learning rates.
    for lr in (0.1, 0.01, 0.001, 0.0001):
        day.said(*fit, "--sweep=auto", f"--model.lr={lr}")
    trials = [day.keep(run) for run in sorted(folder.glob("multi_task_bc,*/seed-0"))]
    swept = {run.parent.name.rpartition("model.lr=")[2]: scores(run).made_of["config"] for run in trials}
    assert {name: config["model"]["init_args"]["lr"] for name, config in swept.items()} == {
        str(lr): lr for lr in (0.1, 0.01, 0.001, 0.0001)
    }
    assert day.is_all_there()

    # The folder moves to another disk; there a quick look at one of its runs.
    folder, old = tmp_path / "disk/experiment", folder
    folder.parent.mkdir()
    day.moved(old, folder)
    first = folder / "multi_task_bc/seed-0"
    look = ["--evaluation.splits=[train]", "--evaluation.trials=1"]
    said = day.said("validate", "-c", f"{first}/config.yaml", f"--ckpt_path={first}/last.ckpt", *look)
    assert f"in {first}/evaluation.json" in said.replace(" is kept", "") or f"in {first}/validations/" in said
    assert not old.exists() and day.is_all_there()
    day.said("fit", "-c", f"{first}/config.yaml", f"--experiment={folder}", "--trainer.fast_dev_run=true")
    assert day.is_all_there()

    # SAC is interrupted, and begun again by the command of before.
    plain, done = algorithms.SAC.update, 0

    def interrupted(self, batch):
        nonlocal done
        done += 1
        if done == 70:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, batch)

    sac = command("sac", folder, "--evaluation.trials=2", "--seed_everything=1")
    with monkeypatch.context() as patch:
        patch.setattr(algorithms.SAC, "update", interrupted)
        said = day.said(*sac)
    assert "SIGTERM ended the run after 100 of " in said and "the same command with --ckpt_path last goes on" in said
    run = folder / "sac/seed-1"
    assert (
        "holds this run, 100 of " in day.said(*sac) and Checkpoint.read(run / "last.ckpt").content["global_step"] == 100
    )
    assert f"in {run}/evaluation.json" in day.said(*sac, "--ckpt_path=last")
    day.said(*sac, f"--run={tmp_path}/whole")
    assert read_store(run / "data").digest == read_store(tmp_path / "whole/data").digest

    # The scale is changed: the earlier run is not that of the file any more, and says so.
    scale.write_text(scale.read_text().replace("mbml_updates: 20", "mbml_updates: 30"))
    fit = [*command("multi_task_bc", folder), "--scale", str(scale), *FEW, f"--data.store={folder}/sac/seed-0/data"]
    assert "(trainer.max_steps is 20 there and 30 here)" in day.said(*fit)
    assert day.is_all_there()
    day.said(*fit, "--method=longer")
    assert scores(folder / "longer/seed-0").step == 30

    # In the evening a report of all of it.
    day.said("report", str(folder))
    found = read_experiment([folder])
    names = {method.name: len(method.runs) for method in found.methods}
    assert names["multi_task_bc"] == 3 and names["longer"] == 1 and sum("multi_task_bc," in name for name in names) == 4
    assert not found.problems and day.is_all_there()
    steps = [json.loads(line)["step"] for line in (folder / "longer/seed-0/metrics.jsonl").read_text().splitlines()]
    assert max(steps) == 30
