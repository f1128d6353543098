"""Keeping a run's work: checkpoints counted in updates, and an end at a block's end when a signal asks for it."""

import os
import signal
from types import FrameType
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, every so many updates and at the end; ``--ckpt_path last`` goes on from it.

    Args:
        dirpath: The run's folder.
        every_n_updates: Updates between checkpoints; one is written at the end of the block that passes them.
    """

    def __init__(self, dirpath: str, every_n_updates: int = 1000) -> None:
        super().__init__(dirpath=dirpath, save_top_k=0, save_last=True, enable_version_counter=False)
        self.every_n_updates = every_n_updates
        self._saved_at = 0

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save when a multiple of ``every_n_updates`` was passed."""
        if trainer.global_step // self.every_n_updates > self._saved_at // self.every_n_updates:
            self.save(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last updates are kept too."""
        if trainer.global_step != self._saved_at:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing: epochs mean nothing here."""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing: the weights have not changed."""

    def save(self, trainer: L.Trainer) -> None:
        """Write ``last.ckpt`` under a temporary name, then rename it."""
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(f"{self.dirpath}/last.ckpt", weights_only=False)

    def _find_last_checkpoints(self, trainer: L.Trainer) -> set[str]:
        return {path for path in super()._find_last_checkpoints(trainer) if path.endswith("last.ckpt")}


class GracefulStop(Callback):
    """The first SIGINT or SIGTERM ends the run after the block in hand, with a checkpoint; a second one at once."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.received: int | None = None
        self._previous: dict[int, Any] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, after Lightning has set its own handlers."""
        self._previous = {number: signal.signal(number, self._note) for number in self.SIGNALS}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """All ranks stop together if one was told to."""
        stop = self.received is not None
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        trainer.should_stop = trainer.should_stop or stop

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the signals back; the checkpoint callback saves."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)


class Progress(TQDMProgressBar):
    """One bar for the whole run, named after the method; it counts blocks of updates.

    Runs that share a terminal each take the line that ``MBML_BAR_POSITION`` says.
    """

    def __init__(self) -> None:
        super().__init__(process_position=int(os.environ.get("MBML_BAR_POSITION", "0")))

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """The one epoch is the run."""
        super().on_train_epoch_start(trainer, *_)
        self.train_progress_bar.set_description(type(trainer.lightning_module).__name__)
