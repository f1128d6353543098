"""The default logger of a run, which needs no account and no network, and what others are told of the run."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mbml_lightning.files.log import LogFile
from mbml_lightning.files.writing import write_text

WANDB_ID = "wandb_id"


class JSONLLogger(Logger):
    """``metrics.jsonl`` in the run's folder ``save_dir``, one line of JSON a call."""

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = Path(save_dir)
        self._file = LogFile(self._folder / "metrics.jsonl")

    @property
    def name(self) -> str:
        """An empty name: what Lightning saves below loggers' names lies in the run's folder itself."""
        return ""

    @property
    def version(self) -> str:
        """An empty name: the folder is the run."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the run, where Lightning saves too."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Leave hyperparameters out: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line to the log."""
        self._file.append(step, metrics)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file when Lightning ends a run."""
        self._file.close()


class UpdateCount(Callback):
    """Lets Lightning's callbacks log against updates, as losses are, where Lightning counts blocks of them.

    It stands before those callbacks.
    """

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Count the updates before a block."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Count those after it."""
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step


def continue_wandb(loggers: Iterable[Logger], run: Path) -> None:
    """Let Weights & Biases go on with the run whose id is in a run's folder, unless the user names another one."""
    if (run / WANDB_ID).is_file() and "WANDB_RUN_ID" not in os.environ:
        for logger in loggers:
            if isinstance(logger, WandbLogger) and logger.version is None:
                logger._wandb_init["id"] = (run / WANDB_ID).read_text().strip()


def keep_wandb_id(loggers: Iterable[Logger], run: Path) -> None:
    """Write the id of the run at Weights & Biases in the run's folder."""
    for logger in loggers:
        if isinstance(logger, WandbLogger) and isinstance(logger.version, str):
            write_text(run / WANDB_ID, logger.version)
