"""Keeping a run's work: checkpoints counted in updates, and an end at a block's end when a signal asks for it."""

import os
from pathlib import Path
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mbml_lightning import stop
from mbml_lightning.data.checkpoints import read_checkpoint, write_checkpoint
from mbml_lightning.types import ConfigurationError


def evaluation_is_due(trainer: L.Trainer) -> bool:
    """Whether Lightning evaluates after the block in hand."""
    return (trainer.fit_loop.total_batch_idx + 1) % cast(float, trainer.val_check_batch) == 0


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, every so many updates and at the end; ``--ckpt_path last`` goes on from it.

    It is written after the evaluation of its weights, if there is one, so that a run which goes on from it has missed
    nothing.

    Args:
        dirpath: The run's folder.
        every_n_updates: Updates between checkpoints; one is written at the end of the block that passes them.
    """

    def __init__(self, dirpath: str, every_n_updates: int = 1000) -> None:
        if every_n_updates < 1:
            raise ConfigurationError(f"checkpoint.every_n_updates is {every_n_updates}, but must be at least 1")
        super().__init__(dirpath=dirpath, save_top_k=0, save_last=True, enable_version_counter=False)
        self.every_n_updates = every_n_updates
        self._saved_at = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Write and read checkpoints our way."""
        super().setup(trainer, pl_module, stage)
        trainer.strategy.checkpoint_io = CheckpointFiles()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Nothing: a run's folder may have been moved."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """What was loaded need not be saved again."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save, unless these weights are evaluated first."""
        if not trainer.enable_validation or not evaluation_is_due(trainer):
            self.save_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save evaluated weights; here Lightning has noted that it need not evaluate them again."""
        if trainer.state.fn == "fit":
            self.save_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last updates are kept too."""
        if trainer.global_step != self._saved_at:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Nothing: epochs mean nothing here."""

    def save_if_due(self, trainer: L.Trainer) -> None:
        """Save when a multiple of ``every_n_updates`` was passed; the last updates wait for their evaluation."""
        passed = trainer.global_step // self.every_n_updates > self._saved_at // self.every_n_updates
        if passed and trainer.global_step < trainer.max_steps:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write ``last.ckpt``."""
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(f"{self.dirpath}/last.ckpt", weights_only=False)

    def _find_last_checkpoints(self, trainer: L.Trainer) -> set[str]:
        return {path for path in super()._find_last_checkpoints(trainer) if path.endswith("last.ckpt")}


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's way to our files: written whole or not at all, read without unpickling and compared with hashes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write one file."""
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one file, to the CPU."""
        return read_checkpoint(path)


class GracefulStop(Callback):
    """The first signal ends the run after the block in hand, with a checkpoint; a second one at once."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """What was asked of an earlier run in this process is not asked of this one."""
        stop.forget()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, after Lightning has set its own handlers."""
        stop.listen()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Lightning evaluates before it stops, which only a due evaluation should."""
        trainer.should_stop = stop.agreed() or trainer.should_stop
        if stop.asked() and not evaluation_is_due(trainer):
            trainer.limit_val_batches = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do not begin another block."""
        if trainer.state.fn == "fit":
            trainer.should_stop = stop.agreed() or trainer.should_stop

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the signals back; the checkpoint callback saves."""
        stop.leave()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Likewise."""
        stop.leave()


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
