"""Every argument, callback and logger of Lightning is tried: it works, or is refused in one line that says what to use.

``PYTHONPATH=tests python tests/cli/test_trainer_options.py > docs/trainer.md`` writes what is tried here as a page.
"""

import contextlib
import io
import json
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import NamedTuple
from unittest.mock import patch

import lightning.pytorch.callbacks
import lightning.pytorch.loggers
import pytest
import torch
import yaml
from commands import ROOT, command
from lightning import Trainer

from mbml_lightning.algorithms.bcq import BCQ
from mbml_lightning.cli.main import main
from mbml_lightning.cli.trainer_options import ARGUMENTS, CALLBACKS
from mbml_lightning.files.checkpoints import Checkpoint

PAGE = ROOT / "docs/trainer.md"
SMALL = ["--model.updates_per_block=5", "--trainer.val_check_interval=2", "--evaluation.trials=2"]
SMALL += ["--evaluation.trials_while_training=1"]
CALLBACK, LOGGER = "--trainer.callbacks+=lightning.pytorch.callbacks.", "--trainer.logger+=lightning.pytorch.loggers."


class Run(NamedTuple):
    """What a training left."""

    folder: Path
    said: str

    def log(self, name: str = "train/q_loss") -> list[int]:
        """The updates at which something was logged."""
        lines = map(json.loads, (self.folder / "metrics.jsonl").read_text().splitlines())
        return [line["step"] for line in lines if any(name in key for key in line)]

    @property
    def weights(self) -> str:
        return Checkpoint.read(self.folder / "last.ckpt").digest

    @property
    def trials(self) -> int:
        return json.loads((self.folder / "evaluation.json").read_text())["trials"]


def train(experiment: Path, folder: Path, *words: str) -> Run:
    """Train twenty updates of BCQ in blocks of five, evaluated every second block."""
    out, logger = io.StringIO(), logging.getLogger("lightning.pytorch")
    logger.addHandler(handler := logging.StreamHandler(out))
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of Lightning, for options that it warns of
        main([*command("bcq", experiment, f"--run={folder}", *SMALL), *words])
    logger.removeHandler(handler)
    return Run(folder, out.getvalue())


def refused(experiment: Path, *words: str) -> str:
    """The one line with which a training is refused before it begins."""
    errors = io.StringIO()
    folder = experiment.parent / "refused"
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        main([*command("bcq", experiment, f"--run={folder}", *SMALL), *words])
    line = stop.value.code if isinstance(stop.value.code, str) else errors.getvalue().splitlines()[0]
    assert "\n" not in line and not folder.exists()
    return line


class Works(NamedTuple):
    """An option that works.

    Attributes:
        words: Those by which it is tried.
        does: What it does, for the page.
        shows: What has to be true of the run, given that of the same training without the option.
    """

    words: tuple[str, ...]
    does: str
    shows: Callable[[Run, Run], bool]


def one(value: object, does: str, shows: Callable[[Run, Run], bool]) -> tuple[str, str, Callable[[Run, Run], bool]]:
    return str(value), does, shows


def same(run: Run, plain: Run) -> bool:
    """The training is the same."""
    return run.weights == plain.weights and run.log() == plain.log()


ALONE = {
    "precision": one(
        "bf16-mixed",
        "`32-true`, or `bf16-mixed`; others are refused: losses are not scaled, and weights are float32",
        lambda run, plain: run.weights != plain.weights and run.log() == plain.log(),
    ),
    "logger": one(
        "false",
        "`metrics.jsonl` by default, which reports read: add others with `--trainer.logger+=...`; `false` for none",
        lambda run, plain: run.weights == plain.weights and not (run.folder / "metrics.jsonl").exists(),
    ),
    "fast_dev_run": one(
        2,
        "as many blocks of updates (`true`: one) and their evaluation in a folder that is then removed",
        lambda run, plain: not run.folder.exists() and "return train" in run.said,
    ),
    "max_steps": one(
        10,
        "the updates of a run, by default those of the scale and the task",
        lambda run, plain: run.log() == [5, 10] and run.trials == 2,
    ),
    "max_time": one(
        "00:00:00:00",
        "ends this process after its block, as a signal does; every process that goes on has all of the time again",
        lambda run, plain: (
            "trainer.max_time ended the run after 0 of 20 updates; the same command with "
            "--ckpt_path last goes on" in run.said
        ),
    ),
    "limit_val_batches": one(
        0,
        "0 for no evaluation; other numbers are refused: evaluation.trials says how much is evaluated",
        lambda run, plain: same(run, plain) and not (run.folder / "evaluation.json").exists(),
    ),
    "val_check_interval": one(
        1,
        "the blocks of updates (of `model.updates_per_block`) between evaluations",
        lambda run, plain: same(run, plain) and run.log("val/") == [5, 10, 15, 20],
    ),
}
"""Arguments that change what a run leaves, each with a value, what it does, and what must be seen of it."""

TOGETHER = {
    "accelerator": one("cpu", "`auto`, `cpu`, `gpu`, `mps`", same),
    "strategy": one(
        "ddp",
        "`auto`; on several devices `--trainer conf/trainer/ddp.yaml` ([how](distributed.md)); others are refused",
        same,
    ),
    "devices": one(1, "1 by default; `conf/trainer/ddp.yaml` takes all", same),
    "num_nodes": one(1, "hosts, with `conf/trainer/ddp.yaml`", same),
    "enable_progress_bar": one(
        "true",
        "a bar on a terminal, in a file a line a minute; one of your own takes its place",
        same,
    ),
    "enable_model_summary": one(
        "true", "prints the networks and their sizes", lambda run, _: "Total params" in run.said
    ),
    "deterministic": one("true", "lets torch use deterministic algorithms only", lambda run, _: FLAGS["deterministic"]),
    "benchmark": one("true", "lets cuDNN choose the fastest convolution; there is none here", same),
    "inference_mode": one("false", "evaluates under `torch.no_grad` in place of `torch.inference_mode`", same),
    "use_distributed_sampler": one(
        "true", "nothing: batches are drawn on the device, and every rank takes its part", same
    ),
    "profiler": one("simple", "prints at the end where the time went", lambda run, _: "Profiler Report" in run.said),
    "detect_anomaly": one(
        "true", "names the operation that made a gradient NaN; slow", lambda run, _: FLAGS["detect_anomaly"]
    ),
    "plugins": one(
        "lightning.pytorch.plugins.environments.LightningEnvironment",
        "environments of clusters; those that write checkpoints or set a precision are refused",
        same,
    ),
    "default_root_dir": one(
        "elsewhere",
        "the run's folder, where Lightning's callbacks and loggers write if nothing else is said",
        lambda run, _: not Path("elsewhere").exists(),
    ),
    "enable_autolog_hparams": one("true", "tells loggers the values of the whole configuration", same),
    "callbacks": one(
        "tests.cli.test_trainer_options.Flags",
        "those of the second table and your own: add them with `--trainer.callbacks+=...`",
        lambda run, _: "deterministic" in FLAGS,
    ),
}
"""Arguments that change no weights, tried in one run."""

UNUSED = {
    **dict.fromkeys(("max_epochs", "min_epochs", "min_steps", "limit_train_batches", "limit_test_batches"), 1),
    **dict.fromkeys(("limit_predict_batches", "overfit_batches", "check_val_every_n_epoch", "num_sanity_val_steps"), 1),
    **dict.fromkeys(("accumulate_grad_batches", "log_every_n_steps"), 2),
    **dict.fromkeys(("barebones", "sync_batchnorm"), "true"),
    "enable_checkpointing": "false",
    "gradient_clip_val": 1.0,
    "gradient_clip_algorithm": "norm",
    "reload_dataloaders_every_n_epochs": 1,
    "model_registry": "mine",
}
"""Values of the arguments that are refused."""

FLAGS: dict[str, bool] = {}


class Flags(lightning.pytorch.callbacks.Callback):
    """A callback of the user's own, which notes what torch was told."""

    def on_train_start(self, *_: object) -> None:
        FLAGS["deterministic"] = torch.are_deterministic_algorithms_enabled()
        FLAGS["detect_anomaly"] = torch.is_anomaly_enabled()


@pytest.fixture(scope="module")
def plain(experiment, tmp_path_factory) -> Run:
    """The training without options."""
    return train(experiment, tmp_path_factory.mktemp("plain") / "run")


def test_every_argument_of_the_trainer_is_tried():
    assert {*ALONE, *TOGETHER, *UNUSED} == set(signature(Trainer).parameters)
    assert UNUSED.keys() == ARGUMENTS.keys()


@pytest.mark.parametrize("name", ALONE)
def test_an_argument_does_what_the_page_says(experiment, plain, tmp_path, name):
    value, _, shows = ALONE[name]
    assert shows(train(experiment, tmp_path / "run", f"--trainer.{name}={value}"), plain)


def test_arguments_that_change_no_weights(experiment, plain, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    words = [f"--trainer.{name}{'+' * (name == 'callbacks')}={value}" for name, (value, *_) in TOGETHER.items()]
    try:
        # Lightning tells ranks of each other there, and would take all cores, with threads that no fork survives.
        with patch.dict(os.environ, OMP_NUM_THREADS="1"):
            run = train(experiment, tmp_path / "run", *words)
    finally:
        torch.distributed.destroy_process_group()
        torch.set_num_threads(1)
        torch.use_deterministic_algorithms(False)
        torch.autograd.set_detect_anomaly(False)
        torch.backends.cudnn.benchmark = False
    assert same(run, plain)
    assert not [name for name, (_, _, shows) in TOGETHER.items() if not shows(run, plain)]


@pytest.mark.parametrize("name", UNUSED)
def test_an_argument_that_could_do_nothing_is_refused_with_what_to_use(experiment, name):
    line = refused(experiment, f"--trainer.{name}={UNUSED[name]}")
    assert f"trainer.{name} is " in line and line.endswith(f"which could do nothing here: {ARGUMENTS[name]}")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("precision=16-mixed", "trainer.precision is '16-mixed', but must be 32-true or bf16-mixed"),
        ("precision=64-true", "trainer.precision is '64-true', but must be 32-true or bf16-mixed"),
        ("precision=bf16-true", "trainer.precision is 'bf16-true', but must be 32-true or bf16-mixed"),
        ("limit_val_batches=0.5", "trainer.limit_val_batches is 0.5, but must be 0, for no evaluation, or 1"),
        ("val_check_interval=0.5", "trainer.val_check_interval is 0.5, but must be a number of blocks"),
        ("strategy=fsdp", "trainer.strategy is fsdp, but must be auto, or on several devices `--trainer conf/"),
        ("strategy=deepspeed_stage_3", "trainer.strategy is deepspeed_stage_3, but must be auto"),
        ("devices=2", "trainer.strategy: several ranks need `--trainer conf/trainer/ddp.yaml`"),
        ("num_nodes=2", "trainer.strategy: several ranks need `--trainer conf/trainer/ddp.yaml`"),
        ("plugins=lightning.pytorch.plugins.io.AsyncCheckpointIO", "AsyncCheckpointIO could do nothing here: checkpoi"),
    ],
)
def test_a_value_that_cannot_work_is_refused_with_those_that_can(experiment, word, said):
    assert said in refused(experiment, f"--trainer.{word}")


def test_strategies_of_classes_are_told_apart(experiment):
    words = ["--trainer.strategy.class_path=lightning.pytorch.strategies.FSDPStrategy"]
    assert "trainer.strategy is FSDPStrategy, but must be auto" in refused(experiment, *words)


# Callbacks --------------------------------------------------------------------------------------------------------


def adding(name: str, *arguments: str) -> tuple[str, ...]:
    return (f"{CALLBACK}{name}", *(f"--trainer.callbacks.{argument}" for argument in arguments))


ADDED = {
    "Callback": Works((), "the base of your own", lambda run, plain: True),
    "Checkpoint": Works((), "the base of `ModelCheckpoint`", lambda run, plain: True),
    "DeviceStatsMonitor": Works(
        adding("DeviceStatsMonitor"),
        "logs use of the device, against updates",
        lambda run, plain: set(run.log("DeviceStatsMonitor.on_train_batch_end")) == {5, 10, 15, 20},
    ),
    "EarlyStopping": Works(
        adding("EarlyStopping", "monitor=val/return", "patience=1", "mode=min", "min_delta=1000000"),
        "ends a run whose score no longer improves, with an evaluation of all trials",
        lambda run, plain: run.log() == [5, 10, 15, 20] and run.trials == 2,
    ),
    "EMAWeightAveraging": Works(
        adding("EMAWeightAveraging", "decay=0.5"),
        "evaluates and keeps the moving average of the weights",
        lambda run, plain: run.weights != plain.weights and run.log() == plain.log(),
    ),
    "LambdaCallback": Works(adding("LambdaCallback"), "calls functions, from Python", same),
    "LearningRateMonitor": Works(
        adding("LearningRateMonitor"),
        "logs learning rates, against updates",
        lambda run, plain: sorted({*run.log("lr-")}) == [0, 5, 10, 15],
    ),
    "ModelCheckpoint": Works(
        adding("ModelCheckpoint", "monitor=val/return", "mode=max"),
        "keeps the best weights in `checkpoints/` of the run's folder, beside `last.ckpt`",
        lambda run, plain: len(list(run.folder.glob("checkpoints/*.ckpt"))) == 1,
    ),
    "ModelSummary": Works(
        adding("ModelSummary"), "prints the networks and their sizes", lambda run, plain: "Total params" in run.said
    ),
    "OnExceptionCheckpoint": Works(
        adding("OnExceptionCheckpoint", "dirpath=${run}"), "keeps the weights at an error", same
    ),
    "ProgressBar": Works((), "the base of your own bar, which takes the place of ours", lambda run, plain: True),
    "RichModelSummary": Works(adding("RichModelSummary"), "prints the networks, with `rich`", same),
    "RichProgressBar": Works(
        (*adding("RichProgressBar"), "--trainer.enable_progress_bar=true"), "takes the place of our bar", same
    ),
    "TQDMProgressBar": Works(
        (*adding("TQDMProgressBar"), "--trainer.enable_progress_bar=true"), "takes the place of our bar", same
    ),
    "Timer": Works(
        adding("Timer", "duration=00:00:00:00"),
        "ends a run by the time of all its processes together; `trainer.max_time` counts that of one",
        lambda run, plain: (
            "a callback ended the run after 0 of 20 updates; the same command with --ckpt_path last goes "
            "on, if the duration of its Timer is raised" in run.said
        ),
    ),
    "WeightAveraging": Works(
        adding("WeightAveraging"),
        "evaluates and keeps the average of the weights",
        lambda run, plain: run.weights != plain.weights and run.log() == plain.log(),
    ),
}
"""Callbacks that work."""

NEEDED = {
    "GradientAccumulationScheduler": ["scheduling={0: 2}"],
    "ModelPruning": ["pruning_fn=l1_unstructured"],
    "StochasticWeightAveraging": ["swa_lrs=0.1"],
    "ThroughputMonitor": ["batch_size_fn=builtins.len"],
}
"""Arguments without which a callback cannot be given."""
UNUSABLE = {kind.__name__: instead for kind, instead in CALLBACKS.items()}
UNUSABLE["BackboneFinetuning"] = UNUSABLE["BaseFinetuning"]


def test_every_callback_of_lightning_is_tried():
    assert {*ADDED, *UNUSABLE} == set(lightning.pytorch.callbacks.__all__)
    assert not ADDED.keys() & UNUSABLE.keys()


@pytest.mark.parametrize("name", [name for name, works in ADDED.items() if works.words])
def test_a_callback_does_what_the_page_says(experiment, plain, tmp_path, name):
    words, _, shows = ADDED[name]
    more = ["--trainer.max_steps=40"] if name == "EarlyStopping" else []
    assert shows(train(experiment, tmp_path / "run", *words, *more), plain)


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_callback_that_could_do_nothing_is_refused_with_what_to_use(experiment, monkeypatch, name):
    monkeypatch.chdir(ROOT)
    path = "tests.cli.test_trainer_options.Own" if name.startswith("Base") else f"lightning.pytorch.callbacks.{name}"
    path += name if name.startswith("Base") else ""
    words = [f"--trainer.callbacks+={path}", *(f"--trainer.callbacks.{word}" for word in NEEDED.get(name, ()))]
    assert refused(experiment, *words).endswith(f" could do nothing here: {UNUSABLE[name]}")


class OwnBaseFinetuning(lightning.pytorch.callbacks.BaseFinetuning):
    """One of a user's own."""


class OwnBasePredictionWriter(lightning.pytorch.callbacks.BasePredictionWriter):
    """One of a user's own."""


def test_a_mistake_in_a_callback_is_one_line_of_its_own_words(experiment):
    line = refused(experiment, *adding("EarlyStopping", "monitor=val/return", "mode=nope"))
    assert "`mode` can be min, max, got nope" in line and "Union" not in line


def test_a_bar_of_the_users_is_refused_only_where_bars_are_off(experiment):
    line = refused(experiment, *adding("RichProgressBar"), "--trainer.enable_progress_bar=false")
    assert "configured with `enable_progress_bar=False` but found `RichProgressBar`" in line


def test_a_metric_that_there_is_not_ends_in_one_line(experiment, tmp_path):
    with pytest.raises(SystemExit, match=r"`val/nope` which is not available.*`val/return`"):
        train(experiment, tmp_path / "run", *adding("EarlyStopping", "monitor=val/nope"))


@pytest.mark.parametrize("name", ["EMAWeightAveraging", "EarlyStopping"])
def test_what_a_callback_left_is_what_a_validation_finds(experiment, tmp_path, name):
    run = train(experiment, tmp_path / "run", *ADDED[name].words)
    warnings.filterwarnings("ignore", ".*state cannot be restored.*")  # of averages, for which a validation has no use
    before = json.loads((run.folder / "evaluation.json").read_text())
    main(["validate", "-c", f"{run.folder}/config.yaml", "--ckpt_path=last", "--evaluation.seed=0"])
    after = json.loads((run.folder / "evaluation.json").read_text())
    assert before["splits"] == after["splits"] and before["made_of"]["weights"] == after["made_of"]["weights"]


def test_a_run_ended_by_its_time_goes_on_with_the_same_command_until_it_is_finished(experiment, tmp_path, monkeypatch):
    update = BCQ.update
    monkeypatch.setattr(BCQ, "update", lambda self, batch: time.sleep(0.03) or update(self, batch))  # 60 take 1.8 s
    words, said = ["--trainer.max_time=00:00:00:01", "--trainer.max_steps=60", "--ckpt_path=last"], []
    for _ in range(20):
        said.append(train(experiment, tmp_path / "run", *words).said)
        if "trainer.max_time ended the run" not in said[-1]:
            break
    whole = train(experiment, tmp_path / "whole", "--trainer.max_steps=60")
    assert len(said) > 1 and Run(tmp_path / "run", "").weights == whole.weights


# Loggers ----------------------------------------------------------------------------------------------------------

INSTALL = {"TensorBoardLogger": "tensorboard", "MLFlowLogger": "mlflow", "CometLogger": "comet-ml"}
"""Loggers of packages that are not installed here, and these."""
LOGGERS = {
    "Logger": "the base of your own",
    "CSVLogger": "works",
    "WandbLogger": "works, as in `conf/trainer/wandb.yaml`; a run that goes on goes on there too",
    "LitLogger": "refused: it is no `lightning.pytorch.loggers.Logger`, which the trainer asks for; use another one",
} | {name: f"works with `pip install {package}`, and is refused without" for name, package in INSTALL.items()}


def test_every_logger_of_lightning_is_tried():
    assert LOGGERS.keys() == set(lightning.pytorch.loggers.__all__)


def test_a_logger_is_told_losses_scores_and_the_whole_configuration(experiment, tmp_path):
    run = train(experiment, tmp_path / "run", f"{LOGGER}CSVLogger", "--trainer.logger.save_dir=${run}")
    (folder,) = (run.folder / "lightning_logs").iterdir()
    header = (folder / "metrics.csv").read_text().splitlines()[0].split(",")
    assert {"step", "train/q_loss", "val/return_train"} <= set(header)
    told = yaml.safe_load((folder / "hparams.yaml").read_text())
    assert told["task"]["distribution"] == "PointGoal" and told["model"]["init_args"]["updates_per_block"] == 5
    assert told["trainer"]["max_steps"] == 20 and told["data"]["init_args"]["store"].startswith(str(experiment))


def test_a_logger_is_told_nothing_of_the_configuration_if_that_is_asked_for(experiment, tmp_path):
    words = [f"{LOGGER}CSVLogger", "--trainer.logger.save_dir=${run}", "--trainer.enable_autolog_hparams=false"]
    run = train(experiment, tmp_path / "run", *words)
    assert (
        not list(run.folder.rglob("hparams.yaml"))
        or yaml.safe_load(next(run.folder.rglob("hparams.yaml")).open()) == {}
    )


@pytest.mark.parametrize("name", INSTALL)
def test_a_logger_whose_package_is_not_installed_says_which_one_is(experiment, name):
    line = refused(experiment, f"{LOGGER}{name}", *["--trainer.logger.save_dir=${run}"] * (name[0] == "T"))
    assert f"lightning.pytorch.loggers.{name}: " in line and INSTALL[name] in line and "Union" not in line


def test_a_logger_that_the_trainer_does_not_take_is_refused(experiment):
    assert "trainer.logger" in refused(experiment, f"{LOGGER}LitLogger")


@pytest.mark.nightly
def test_a_run_that_goes_on_goes_on_at_weights_and_biases(experiment, tmp_path):
    """In processes of their own, as W&B leaves threads behind."""
    run, environment = tmp_path / "run", os.environ | {"WANDB_MODE": "offline", "PYTHONPATH": str(ROOT)}
    environment.pop("WANDB_RUN_ID", None)
    words = [*command("bcq", experiment, f"--run={run}", *SMALL), "--trainer", str(ROOT / "conf/trainer/wandb.yaml")]

    def identity(*more: str) -> str:
        line = [sys.executable, "-m", "mbml_lightning", *words, "--trainer.max_steps=10", *more]
        subprocess.run(line, env=environment, check=True, capture_output=True)
        return (run / "wandb_id").read_text()

    first = identity()
    (run / "evaluation.json").unlink()  # as if it had been stopped before
    assert identity("--ckpt_path=last") == first
    assert identity("--overwrite") != first
    tracked = [path.name.rpartition("-")[2] for path in (run / "wandb").glob("offline-run-*")]
    assert sorted(tracked) == sorted([first, first, (run / "wandb_id").read_text()])


# The page ---------------------------------------------------------------------------------------------------------

INTRODUCTION = """\
# Lightning's trainer

`mbml fit` and `mbml validate` hand the section `trainer` to `lightning.Trainer`. A run is one epoch, a Lightning batch
is a block of updates, and a method makes its own optimisers' steps: most arguments mean what they mean elsewhere, and
those that could do nothing are refused in one line. This page is written by the test that tries them all,
`tests/cli/test_trainer_options.py`, with Lightning {version}.
"""


def page() -> str:
    """The tables of what is tried."""
    parts = [INTRODUCTION.format(version=".".join(lightning.__version__.split(".")[:2]))]
    works = {name: does for name, (_, does, _) in (ALONE | TOGETHER).items()}
    arguments = {name: works.get(name) or f"refused: {ARGUMENTS[name]}" for name in signature(Trainer).parameters}
    usable = {name: works.does for name, works in ADDED.items()}
    callbacks = usable | {name: f"refused: {instead}" for name, instead in UNUSABLE.items()}
    tables = {"Arguments": ("trainer.", arguments), "Callbacks": ("", callbacks), "Loggers": ("", LOGGERS)}
    for title, (prefix, rows) in tables.items():
        names = rows if title == "Arguments" else sorted(rows, key=str.lower)
        lines = [f"| `{prefix}{name}` | {rows[name]} |" for name in names]
        parts.append("\n".join([f"## {title}", "", f"| {title[:-1].lower()} | here |", "|---|---|", *lines]) + "\n")
    return "\n".join(parts)


def test_the_page_says_what_was_tried():
    assert PAGE.read_text(encoding="utf-8") == page()


if __name__ == "__main__":
    print(page(), end="")
