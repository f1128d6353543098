"""The progress of a whole run, which is one epoch: a bar on a terminal, a line now and then in a file."""

import os
import sys
import time
from datetime import timedelta
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ProgressBar, TQDMProgressBar


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
        self.train_progress_bar.set_description(name_of(trainer))


class ProgressLines(ProgressBar):
    """A line on standard error, at most once in so many seconds.

    Args:
        seconds: Between two lines.
    """

    def __init__(self, seconds: float = 60.0) -> None:
        super().__init__()
        self.seconds, self._is_enabled = seconds, True

    def disable(self) -> None:
        """Say nothing from now on; Lightning calls this on all ranks but the first."""
        self._is_enabled = False

    def on_train_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note when the training begins, and after how many updates."""
        self._began, self._before = time.monotonic(), trainer.global_step
        self._told = self._began

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Tell how far the run is, if the last time is long enough ago."""
        now = time.monotonic()
        if self._is_enabled and now - self._told >= self.seconds:
            self._told, done = now, trainer.global_step
            left = (now - self._began) / (done - self._before) * (trainer.max_steps - done)
            name, rest = name_of(trainer), timedelta(seconds=round(left))
            print(f"mbml: {name}: {done:,} of {trainer.max_steps:,} updates, about {rest} left", file=sys.stderr)


def name_of(trainer: L.Trainer) -> str:
    """Name what is trained, for a reader."""
    module = trainer.lightning_module
    return str(getattr(module, "label", type(module).__name__))


def progress() -> ProgressBar:
    """Make a bar for a terminal or a notebook, lines for anything else."""
    return Progress() if sys.stdout.isatty() or "ipykernel" in sys.modules else ProgressLines()
