"""The Lightning callback by which a training takes its folder over, once nothing has refused it."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from mbml_lightning.files.configuration import CONFIG
from mbml_lightning.files.run_folder import clear
from mbml_lightning.files.writing import write_text
from mbml_lightning.training.logger import keep_wandb_id


class RunFolder(Callback):
    """Clears a folder for a run that begins there, and writes its ``config.yaml``.

    Args:
        folder: The run's folder.
        config: Text of its configuration.
        values: Its values, which loggers are told as hyperparameters; None to tell them nothing.

    Attributes:
        begins: True for a run that does not go on from its own checkpoint.
    """

    def __init__(self, folder: str, config: str, values: dict[str, Any] | None = None) -> None:
        self.folder, self.config, self.values = Path(folder), config, values or {}
        self.begins, self.is_written = False, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Clear the folder when Lightning begins training: data, teachers and weights are there, and fit.

        Other callbacks write in it from here on, so this one stands first.
        """
        if self.begins and trainer.is_global_zero:
            clear(self.folder)
        for logger in trainer.loggers if self.values else ():
            logger.log_hyperparams(self.values)

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Write the configuration before the first block, when a resumed run has not been refused."""
        if not self.is_written and trainer.is_global_zero:
            write_text(self.folder / CONFIG, self.config)
            keep_wandb_id(trainer.loggers, self.folder)
        self.is_written = True

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write the configuration of a validation in a folder that has none, when Lightning begins one."""
        if trainer.state.fn == "validate" and trainer.is_global_zero and not (self.folder / CONFIG).exists():
            write_text(self.folder / CONFIG, self.config)
