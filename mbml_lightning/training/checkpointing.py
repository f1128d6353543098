"""Checkpoints of a run: what of a method goes into them, when they are written, and which ones a run resumes from."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any, cast

import lightning as L
import numpy as np
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.optim import Optimizer

from mbml_lightning import envs, ranks
from mbml_lightning.arguments import PositiveInt
from mbml_lightning.errors import CheckpointError, ConfigurationError
from mbml_lightning.files.checkpoints import Checkpoint, hash_tensors
from mbml_lightning.files.provenance import made_by
from mbml_lightning.results.methods import card
from mbml_lightning.training import sharding
from mbml_lightning.training.stopping import evaluation_is_due

NOT_FINITE = "lower model.lr or look at the data; the last checkpoint is kept"


class Checkpointed(L.LightningModule):
    """A module for K tasks whose checkpoints hold all of them, trained on any number of ranks, with a record.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if not as many as official tasks of the split.
        split: Which task set the K tasks are: the official ones, until data or a checkpoint say which they are.
    """

    def __init__(self, distribution: str, num_tasks: PositiveInt | None, split: str) -> None:
        super().__init__()
        self.distribution = envs.distribution(distribution)
        self.split, self.tasks = split, self.distribution.tasks(split)[:num_tasks]
        self.num_tasks = num_tasks or len(self.tasks)
        self.share = ranks.Share(self.num_tasks, range(self.num_tasks))  # this rank's part of every batch
        self.parents: dict[str, str] = {}  # by name, SHA-256 of the weights that this method learns from
        self.config: dict[str, Any] | None = None  # the whole one of the command, where one made this
        self.loaded_updates = 0  # those that made the weights of the checkpoint that was loaded
        self.resumed: Checkpoint | None = None  # the checkpoint that the training is resumed from, until it begins
        self.changes: Sequence[dict[str, Any]] = ()  # learning rates that were changed when the run was resumed

    @property
    def label(self) -> str:
        """Name for a reader: of the method as the command has it, such as *Neither*, else of the class."""
        name = (self.config or {}).get("method")
        return card(name).label if name else type(self).__name__

    def identity(self) -> dict[str, str]:
        """Entries of the record that decide where weights can be used; a checkpoint that differs is refused."""
        return {"method": type(self).__name__, "distribution": self.distribution.name}

    def take_tasks(self, tasks: np.ndarray) -> None:
        """Take the tasks that data or a checkpoint hold, in their order.

        Raises:
            ConfigurationError: There are more or fewer than the method's networks are for.
        """
        if len(tasks) != self.num_tasks:
            raise ConfigurationError(f"model.num_tasks is {self.num_tasks}, but {len(tasks)} tasks are given: set that")
        self.tasks = tasks

    def provenance(self) -> dict[str, Any]:
        """Record what the weights are, and what they were made from and by."""
        data = getattr(self.trainer, "datamodule", None)
        made = {"data": getattr(data, "digest", None), "parents": self.parents, "config": self.config}
        made["tasks"] = self.tasks.tolist()
        return self.identity() | made | {"changes": list(self.changes), "made_by": made_by()}

    def learned_from(self, name: str, checkpoint: Checkpoint) -> None:
        """Record that this method learns from the weights of another one."""
        self.parents[name] = checkpoint.digest

    def weights_digest(self) -> str:
        """Hash the weights of all tasks, on rank 0; all ranks call it together."""
        state = {"state_dict": self.state_dict()}
        return hash_tensors((state | self.of_all_tasks(state))["state_dict"])

    # Saving ----------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put all tasks' weights together and add the record; Lightning calls it before it writes a checkpoint."""
        for name, tensor in checkpoint["state_dict"].items():
            if not tensor.isfinite().all():
                raise FloatingPointError(f"{name} is not finite after {self.global_step} updates: {NOT_FINITE}")
        checkpoint |= self.of_all_tasks(checkpoint)
        Checkpoint.seal(checkpoint, self.provenance())

    def of_all_tasks(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Collect the weights and moments of all tasks on rank 0; other ranks keep those of their own."""
        if len(self.share.tasks) == self.num_tasks:
            return {}
        kept = {name: value for name, value in checkpoint.items() if name in ("state_dict", "optimizer_states")}
        parts = ranks.collect(sharding.on_cpu(kept, *self.axes()), self.num_tasks)
        return sharding.join(parts, *self.axes()) if parts else {}

    def axes(self) -> tuple[sharding.Axes, list[list[int]]]:
        """Find the axis of tasks in each weight, and in the moments of each optimiser."""
        axes = sharding.task_axes(self)
        return axes, sharding.optimizer_axes(axes, self, self.fresh_optimizers())

    def fresh_optimizers(self) -> Sequence[Optimizer]:
        """Make the optimisers of the configuration anew, without the state of those in use."""
        made = cast("list[Optimizer] | Optimizer", self.configure_optimizers())
        return made if isinstance(made, list) else [made]

    # Loading ---------------------------------------------------------------------------------------------------

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse what does not fit and keep this rank's tasks; Lightning calls it before it loads weights."""
        trainer = self._trainer  # None where weights are loaded outside of any run
        found = Checkpoint(checkpoint, str(trainer.ckpt_path)) if trainer is not None else Checkpoint(checkpoint)
        self.check_checkpoint(found)
        self.loaded_updates = checkpoint["global_step"]
        if trainer is not None and trainer.state.fn == "fit":
            found.check_data(getattr(trainer.datamodule, "digest", None))  # type: ignore[attr-defined]
            changes = [] if self.config is None else found.check_configuration(self.config)
            self.changes = [*found.record.get("changes", []), *changes]
            self.resumed = found
        if len(self.share.tasks) < self.num_tasks:
            checkpoint |= sharding.cut(checkpoint, *self.axes(), self.share.tasks)

    def check_checkpoint(self, checkpoint: Checkpoint) -> None:
        """Refuse weights of another method or for other tasks, and take their tasks."""
        checkpoint.check(**self.identity())
        self.take_tasks(self.distribution.recorded_tasks(checkpoint.record, self.split, self.num_tasks))

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load weights; refuse those of other networks than the configuration describes."""
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            first = shorten(" ".join(str(error).split("\n\t")[1:2]).rstrip(". "), 200, placeholder=" ...")
            message = f"weights do not fit the configuration ({first}): give the config.yaml of the checkpoint's run"
            raise CheckpointError(message) from error

    def on_train_start(self) -> None:
        """Complete a resumption; Lightning calls it once teachers, ensembles and optimisers are loaded.

        Lightning restores the optimisers with the learning rates of the checkpoint: the configured ones replace them.
        """
        if self.resumed is not None:
            self.resumed.check_parents(self.parents)
            self.resumed = None
            for restored, fresh in zip(self.trainer.optimizers, self.fresh_optimizers(), strict=True):
                for group, configured in zip(restored.param_groups, fresh.param_groups, strict=True):
                    group["lr"] = configured["lr"]


class LastCheckpoint(ModelCheckpoint):
    """``last.ckpt``, every so many updates and at the end; ``--ckpt_path last`` goes on from it.

    It is written after the evaluation of its weights, if there is one, so that a resumed run has missed nothing.

    Args:
        dirpath: The run's folder.
        every_n_updates: Updates between checkpoints; one is written at the end of the block that passes them.
    """

    def __init__(self, dirpath: str, every_n_updates: PositiveInt = 1000) -> None:
        super().__init__(dirpath=dirpath, save_top_k=0, save_last=True, enable_version_counter=False)
        self.every_n_updates = every_n_updates
        self._saved_at = 0

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Make Lightning read and write through `CheckpointFiles`; it calls this before anything is loaded."""
        super().setup(trainer, pl_module, stage)
        trainer.strategy.checkpoint_io = CheckpointFiles()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep our own state where Lightning would restore the folder: a run's folder may have been moved."""

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note, when Lightning begins training, that loaded weights need not be saved again."""
        super().on_train_start(trainer, pl_module)
        self._saved_at = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Save after a block, unless its weights are evaluated first."""
        if not trainer.enable_validation or not evaluation_is_due(trainer):
            self.save_if_due(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save after an evaluation, when Lightning has noted that these weights need no other one."""
        if trainer.state.fn == "fit":
            self.save_if_due(trainer)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save the last updates of a training."""
        if trainer.global_step != self._saved_at:
            self.save(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Override Lightning's saving at the end of an epoch: a run is a single epoch."""

    def save_if_due(self, trainer: L.Trainer) -> None:
        """Save when a multiple of ``every_n_updates`` was passed; the last updates wait for their evaluation."""
        passed = trainer.global_step // self.every_n_updates > self._saved_at // self.every_n_updates
        if passed and trainer.global_step < trainer.max_steps:
            self.save(trainer)

    def save(self, trainer: L.Trainer) -> None:
        """Write ``last.ckpt`` in the run's folder."""
        self._saved_at = trainer.global_step
        trainer.save_checkpoint(f"{self.dirpath}/last.ckpt", weights_only=False)

    def _find_last_checkpoints(self, trainer: L.Trainer) -> set[str]:
        """Find ``last.ckpt`` alone, where Lightning would also take other names that begin so."""
        return {path for path in super()._find_last_checkpoints(trainer) if path.endswith("last.ckpt")}


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's access to our files: written whole or not at all, and read without unpickling."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Write one file; Lightning calls it on rank 0."""
        Checkpoint(checkpoint).write(Path(path))

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = None
    ) -> dict[str, Any]:
        """Read one file to the CPU, whatever Lightning asks for."""
        return Checkpoint.read(path).content
