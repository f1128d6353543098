"""The progress bar."""

import os
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import TQDMProgressBar


class Progress(TQDMProgressBar):
    """One bar for the whole run, named after the method; it counts blocks of updates.

    Runs that share a terminal each take the line that ``MBML_BAR_POSITION`` says.
    """

    def __init__(self) -> None:
        super().__init__(process_position=int(os.environ.get("MBML_BAR_POSITION", "0")))

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """The one epoch is the run; Lightning does not begin it again in a run that goes on within it."""
        super().on_train_start(trainer, *_)
        self.on_train_epoch_start(trainer)

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Name the bar."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(type(trainer.lightning_module).__name__)
