"""A killed run that goes on ends where an uninterrupted one does, to the last bit."""

import json
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import AS_ON_A_LAPTOP, BASELINES, NEEDED, command, configuration

from mbml_lightning import algorithms
from mbml_lightning.cli.main import main
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.store import FIELDS, read_store
from mbml_lightning.results.methods import METHODS
from mbml_lightning.training.evaluation import OnlineEvaluation

BLOCKS = ["--model.updates_per_block=5", "--checkpoint.every_n_updates=10", "--evaluation.trials=1"]
CLASSES = {name: configuration(METHODS[name])["model"]["class_path"] for name in (*NEEDED, "mbml", *BASELINES)}
LEARNERS = [name for name in CLASSES if METHODS[name].is_trained and name != "next_state_ensemble"]
"""One for each class that is trained."""


def words(phase: str, experiment: Path, run: Path, *more: str) -> list[str]:
    more = (*BLOCKS, f"--run={run}", "--ckpt_path=last", *more)
    budget = "--scale.warmup=160" if phase == "sac" else "--trainer.max_steps=40"
    interval = "--trainer.val_check_interval=3" if phase != "reward_ensemble" else "--trainer.limit_val_batches=0"
    return command(phase, experiment, *more, budget, interval)


def run_until_killed(phase: str, experiment: Path, run: Path, updates: int, *options: str) -> None:
    """Run in a process that SIGKILLs itself in the middle of a block."""

    def die() -> None:
        method = getattr(algorithms, CLASSES[phase])
        plain, done = method.update, 0

        def update(self, batch):
            nonlocal done
            done += 1
            if done > updates:
                os.kill(os.getpid(), signal.SIGKILL)
            return plain(self, batch)

        method.update = update
        main(words(phase, experiment, run, *options))

    process = multiprocessing.get_context("fork").Process(target=die)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def evaluations(run: Path) -> list[tuple[int, float]]:
    """When scores were logged, and which."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["val/return_train"]) for line in lines if "val/return_train" in line]


def final(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


def assert_same(a, b, where: str = "") -> None:
    """Bit-identical, however deep."""
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
@pytest.mark.parametrize(("phase", "options"), [*((phase, []) for phase in LEARNERS), *AS_ON_A_LAPTOP])
def test_kill_and_resume_is_bit_identical(experiment, tmp_path, phase, options):
    main(words(phase, experiment, tmp_path / "whole", *options))
    run_until_killed(phase, experiment, tmp_path / "killed", 27, *options)
    assert final(tmp_path / "killed")["global_step"] == 20
    run_until_killed(phase, experiment, tmp_path / "killed", 6, *options)  # before the next checkpoint: again from 20
    main(words(phase, experiment, tmp_path / "killed", *options))
    whole, resumed = final(tmp_path / "whole"), final(tmp_path / "killed")
    assert whole["global_step"] == resumed["global_step"] >= 40
    assert_same(whole["state_dict"], resumed["state_dict"])
    assert_same(whole["optimizer_states"], resumed["optimizer_states"])
    if phase == "sac":
        assert_same(whole["OnlineDataModule"], resumed["OnlineDataModule"])
        stores = [read_store(tmp_path / name / "data").tasks for name in ("whole", "killed")]
        for one, other in zip(*stores, strict=True):
            assert all(np.array_equal(one.fields[name], other.fields[name]) for name in FIELDS)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_the_bar_of_a_run_that_goes_on_shows_how_far_it_is(experiment, tmp_path, capsys, monkeypatch):
    run_until_killed("bcq", experiment, tmp_path, 27)
    capsys.readouterr()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)  # elsewhere lines are written
    main([word.replace("bar=false", "bar=true") for word in words("bcq", experiment, tmp_path)])
    shown = capsys.readouterr().out
    assert all(f"| {block}/8 " in shown for block in (5, 6, 7, 8)) and "BCQ:" in shown


def test_a_finished_run_is_left_alone(experiment, tmp_path):
    main(words("bcq", experiment, tmp_path))
    before = (tmp_path / "last.ckpt").read_bytes()
    main(words("bcq", experiment, tmp_path))
    assert (tmp_path / "last.ckpt").read_bytes() == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1])
def test_a_signal_ends_the_run_after_its_block_with_a_checkpoint(experiment, tmp_path, monkeypatch, capsys, number):
    plain, done = algorithms.BCQ.update, 0

    def update(self, batch):
        nonlocal done
        done += 1
        if done == 12:
            os.kill(os.getpid(), number)
        return plain(self, batch)

    monkeypatch.setattr(algorithms.BCQ, "update", update)
    with pytest.raises(SystemExit) as stopped:
        main(words("bcq", experiment, tmp_path))
    assert stopped.value.code == 128 + number
    assert final(tmp_path)["global_step"] == done == 15
    assert f"{number.name} ended the run after 15 of 40 updates" in capsys.readouterr().err
    main(words("bcq", experiment, tmp_path))
    main(words("bcq", experiment, tmp_path / "whole"))
    assert_same(final(tmp_path / "whole")["state_dict"], final(tmp_path)["state_dict"])
    assert evaluations(tmp_path) == evaluations(tmp_path / "whole")


@pytest.mark.parametrize("at", [15, 40])
def test_a_signal_during_an_evaluation_ends_it_and_it_is_made_up_for(experiment, tmp_path, monkeypatch, at):
    plain = OnlineEvaluation.act_chunk

    def act(self, name, method, *more):
        if method.global_step == at:
            os.kill(os.getpid(), signal.SIGTERM)
        return plain(self, name, method, *more)

    with monkeypatch.context() as patch:
        patch.setattr(OnlineEvaluation, "act_chunk", act)
        with pytest.raises(SystemExit):
            main(words("bcq", experiment, tmp_path / "left", "--evaluation.copies=1"))
    assert final(tmp_path / "left")["global_step"] == at
    assert [step for step, _ in evaluations(tmp_path / "left")] == ([15, 30] if at == 40 else [])
    for run in ("left", "whole"):
        main(words("bcq", experiment, tmp_path / run, "--evaluation.copies=1"))
    assert evaluations(tmp_path / "left") == evaluations(tmp_path / "whole")
    assert [step for step, _ in evaluations(tmp_path / "whole")] == [15, 30, 40]
    one, other = (Evaluation.load(tmp_path / run / "evaluation.json") for run in ("left", "whole"))
    assert (one.splits["train"].returns == other.splits["train"].returns).all()
    assert_same(final(tmp_path / "whole")["state_dict"], final(tmp_path / "left")["state_dict"])


def test_a_loss_that_is_not_finite_is_named_and_the_last_checkpoint_kept(experiment, tmp_path, monkeypatch, capsys):
    plain, done = algorithms.BCQ.update, 0

    def update(self, batch):
        nonlocal done
        done += 1
        losses = plain(self, batch)
        return losses | {"q_loss": losses["q_loss"] * float("nan")} if done > 13 else losses

    monkeypatch.setattr(algorithms.BCQ, "update", update)
    with pytest.raises(SystemExit) as stop:
        main(words("bcq", experiment, tmp_path))
    assert "q_loss is nan" in str(stop.value.code)
    assert final(tmp_path)["global_step"] == 10
