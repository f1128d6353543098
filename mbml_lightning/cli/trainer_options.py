"""Arguments, callbacks and plugins of Lightning's trainer that could do nothing here, and what to use instead."""

from collections.abc import Mapping
from inspect import signature
from pkgutil import resolve_name
from typing import Any

from lightning import Trainer
from lightning.pytorch import callbacks as lightning
from lightning.pytorch.plugins import CheckpointIO, Precision
from lightning.pytorch.strategies import DDPStrategy, SingleDeviceStrategy

from mbml_lightning.cli.configuration import TRAINER_DEFAULTS
from mbml_lightning.errors import ConfigurationError

EPOCHS = "a run is one epoch, and trainer.max_steps says how many updates it makes"
ARGUMENTS = {
    "max_epochs": EPOCHS,
    "min_epochs": EPOCHS,
    "min_steps": "trainer.max_steps says how many updates a run makes",
    "limit_train_batches": "trainer.max_steps says how many updates a run makes",
    "limit_test_batches": "`mbml validate` evaluates, and evaluation.trials says how much",
    "limit_predict_batches": "`mbml validate` evaluates, and evaluation.trials says how much",
    "overfit_batches": "train on a smaller store: scale.interactions says how many transitions SAC keeps",
    "check_val_every_n_epoch": "trainer.val_check_interval says after how many blocks of updates a run is evaluated",
    "num_sanity_val_steps": "trainer.fast_dev_run tries a run, its evaluation too, and keeps nothing",
    "log_every_n_steps": "model.updates_per_block says how many updates a line of the log is the mean of",
    "enable_checkpointing": "trainer.fast_dev_run keeps nothing; checkpoint.every_n_updates says how often one is kept",
    "accumulate_grad_batches": "model.batch_size says how many transitions a gradient is the mean of",
    "gradient_clip_val": "gradients are not clipped; the method `step` of a class of your own can",
    "gradient_clip_algorithm": "gradients are not clipped; the method `step` of a class of your own can",
    "barebones": "trainer.fast_dev_run keeps nothing; benchmarks/ measures the speed of updates",
    "sync_batchnorm": "no network here normalises over a batch",
    "reload_dataloaders_every_n_epochs": EPOCHS,
    "model_registry": "checkpoints are in the run's folder",
}
"""Refused arguments, by name; only their defaults are let through."""
STRATEGIES = (SingleDeviceStrategy, DDPStrategy)
"""Those that hold whole networks on every device."""
PRECISIONS = (None, "32-true", "32", 32, "bf16-mixed", "bf16")
FIXED = "learning rates and batch sizes are fixed: compare them with --sweep (docs/sweeps.md)"
CALLBACKS: dict[type, str] = {
    lightning.BaseFinetuning: "weights are trained from the start: ckpt_path of another run begins from its weights",
    lightning.BasePredictionWriter: "there is no `mbml predict`; trajectories.npz holds what a policy did",
    lightning.BatchSizeFinder: FIXED,
    lightning.LearningRateFinder: FIXED,
    lightning.GradientAccumulationScheduler: ARGUMENTS["accumulate_grad_batches"],
    lightning.ModelPruning: "checkpoints hold whole networks: give smaller ones, as in --scale.q_hidden=[256,256]",
    lightning.SpikeDetection: "a loss that is not finite ends a run by itself; metrics.jsonl holds every block's",
    lightning.StochasticWeightAveraging: "it counts epochs: lightning.pytorch.callbacks.WeightAveraging counts updates",
    lightning.ThroughputMonitor: "metrics.jsonl holds the time of every block; docs/speed.md says what is usual",
}
"""Refused callbacks and those derived from them."""
PLUGINS: dict[type, str] = {
    CheckpointIO: "checkpoints are written by the run itself, whole or not at all",
    Precision: "trainer.precision says it",
}
"""Refused plugins and those derived from them."""


def check_trainer(trainer: Mapping[str, Any]) -> None:
    """Refuse arguments that could do nothing, or have a value that cannot work.

    Raises:
        ConfigurationError: There is one; it is named, with what to use instead.
    """
    defaults = {name: argument.default for name, argument in signature(Trainer).parameters.items()} | TRAINER_DEFAULTS
    for name, instead in ARGUMENTS.items():
        if (value := trainer[name]) != defaults[name] and not (name == "enable_checkpointing" and value):
            raise ConfigurationError(f"trainer.{name} is {value}, which could do nothing here: {instead}")
    if (precision := trainer["precision"]) not in PRECISIONS:
        works = "32-true or bf16-mixed: losses are not scaled, weights are float32"
        raise ConfigurationError(f"trainer.precision is {precision!r}, but must be {works}")
    if (evaluated := trainer["limit_val_batches"]) not in (None, 0, 1, 1.0):
        raise ConfigurationError(
            f"trainer.limit_val_batches is {evaluated}, but must be 0, for no evaluation, or 1: evaluation.trials says "
            "how much is evaluated"
        )
    check_strategy(trainer["strategy"])
    check_classes(trainer)


def check_strategy(strategy: Any) -> None:
    """Refuse a strategy that cuts networks up, or starts processes in its own way."""
    if isinstance(strategy, Mapping):
        kind = resolve_name(strategy["class_path"])
        name, works = kind.__name__, issubclass(kind, STRATEGIES)
    else:
        name, works = strategy, strategy in ("auto", "ddp", "single_device")
    if not works:
        raise ConfigurationError(
            f"trainer.strategy is {name}, but must be auto, or on several devices `--trainer conf/trainer/ddp.yaml`"
        )


def check_classes(trainer: Mapping[str, Any]) -> None:
    """Refuse callbacks and plugins that could do nothing."""
    for argument, refused in (("callbacks", CALLBACKS), ("plugins", PLUGINS)):
        given = trainer[argument]
        for one in given if isinstance(given, list) else [given]:
            made = resolve_name(one["class_path"]) if isinstance(one, Mapping) else None
            if isinstance(made, type):
                refuse_class(f"trainer.{argument}", made, refused)


def refuse_class(argument: str, made: type, refused: Mapping[type, str]) -> None:
    """Refuse a class that is among the refused ones or derived from one, with what to use instead."""
    for kind, instead in refused.items():
        if issubclass(made, kind):
            raise ConfigurationError(f"{argument}: {made.__name__} could do nothing here: {instead}")
