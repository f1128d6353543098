"""The progress bar of a whole run, which is one epoch."""

import os
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


class Progress(TQDMProgressBar):
    """One bar for the whole run, named after the method, which counts blocks of updates.

    Runs that share a terminal each take the line whose number is in the environment variable ``MBML_BAR_POSITION``.
    """

    def __init__(self) -> None:
        super().__init__(process_position=int(os.environ.get("MBML_BAR_POSITION", "0")))

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Begin the bar with the training.

        A run is a single epoch, and Lightning skips `on_train_epoch_start` in a run that is resumed within it.
        """
        super().on_train_start(trainer, *_)
        self.on_train_epoch_start(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Name the bar after the method in place of Lightning's "Epoch 0"."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(type(trainer.lightning_module).__name__)
