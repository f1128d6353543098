"""Keeping a run's work: checkpoints counted in updates, and an end at a block's end when a signal asks for it."""

from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mbml_lightning.arguments import PositiveInt
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.files.checkpoints import read_checkpoint, write_checkpoint
from mbml_lightning.training.stopping import evaluation_is_due


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, every so many updates and at the end; ``--ckpt_path last`` goes on from it.

    It is written after the evaluation of its weights, if there is one, so that a run which goes on from it has missed
    nothing.

    Args:
        dirpath: The run's folder.
        every_n_updates: Updates between checkpoints; one is written at the end of the block that passes them.
    """

    def __init__(self, dirpath: str, every_n_updates: PositiveInt = 1000) -> None:
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
