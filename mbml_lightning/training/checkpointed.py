"""What of a method goes into a checkpoint, whose weights it takes from one, and which ones it refuses."""

from collections.abc import Mapping
from typing import Any, cast

import lightning as L
from torch.optim import Adam

from mbml_lightning import ranks
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.checkpoints import check_configuration, check_data, check_made_by, check_parents, seal
from mbml_lightning.files.provenance import made_by
from mbml_lightning.files.writing import content_hash
from mbml_lightning.training import sharding as task_sharding

NOT_FINITE = "lower model.lr or look at the data; the last checkpoint is kept"


class Checkpointed(L.LightningModule):
    """A module whose checkpoints hold all tasks, however many ranks trained them, and say what they are of.

    What is named here is set by the class that uses it.
    """

    family: TaskDistribution
    num_tasks: int
    share: ranks.Share
    """What this rank does of every batch."""
    parents: dict[str, str]
    """SHA-256 of the weights that this one learns from, by what they are."""
    config: dict[str, Any] | None = None
    """The whole configuration of the command, where one made this."""
    loaded_updates: int = 0
    """Updates that made the weights of the checkpoint that was loaded."""
    resumed: dict[str, Any] | None = None
    """The checkpoint that the training goes on from, until it does."""

    def identity(self) -> dict[str, str]:
        """What weights of this method are good for; a checkpoint that differs in any of it is refused."""
        return {"method": type(self).__name__, "distribution": self.family.name}

    def provenance(self) -> dict[str, Any]:
        """What the weights are of, and what made them."""
        data = getattr(self.trainer, "datamodule", None)
        made = {"data": getattr(data, "digest", None), "parents": self.parents, "config": self.config}
        return self.identity() | made | {"made_by": made_by()}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put all tasks' weights together, and write down what they are of.

        Raises:
            FloatingPointError: A weight is not finite: the last good checkpoint is kept.
        """
        for name, tensor in checkpoint["state_dict"].items():
            if not tensor.isfinite().all():
                raise FloatingPointError(f"{name} is not finite after {self.global_step} updates: {NOT_FINITE}")
        checkpoint |= self.of_all_tasks(checkpoint)
        seal(checkpoint, self.provenance())

    def of_all_tasks(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """On rank 0 the weights and moments of all tasks, on others those of its own."""
        if len(self.share.tasks) == self.num_tasks:
            return {}
        kept = {name: value for name, value in checkpoint.items() if name in ("state_dict", "optimizer_states")}
        parts = ranks.collect(task_sharding.on_cpu(kept, *self.axes()))[: len(ranks.first_ranks(self.num_tasks))]
        return task_sharding.join(parts, *self.axes()) if parts else {}

    def axes(self) -> tuple[task_sharding.Axes, list[list[int]]]:
        """Where tasks are in the weights, and in the moments of the optimisers."""
        axes = task_sharding.task_axes(self)
        made = cast("list[Adam] | Adam", self.configure_optimizers())
        return axes, task_sharding.optimizer_axes(axes, self, made if isinstance(made, list) else [made])

    def weights_digest(self) -> str:
        """SHA-256 of all tasks' weights on rank 0; all ranks ask for it together."""
        state = {"state_dict": self.state_dict()}
        return content_hash((state | self.of_all_tasks(state))["state_dict"])

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of something else; of the rest, take this rank's tasks."""
        self.check_checkpoint(checkpoint)
        self.loaded_updates = checkpoint["global_step"]
        trainer = self._trainer  # None where weights are loaded outside of any run
        if trainer is not None and trainer.state.fn == "fit":
            check_data(checkpoint, getattr(trainer.datamodule, "digest", None))  # type: ignore[attr-defined]
            if self.config is not None:
                check_configuration(checkpoint, self.config)
            self.resumed = checkpoint
        if len(self.share.tasks) < self.num_tasks:
            checkpoint |= task_sharding.cut(checkpoint, *self.axes(), self.share.tasks)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Weights of the networks that the configuration describes.

        Raises:
            CheckpointError: They are of others.
        """
        try:
            return super().load_state_dict(state_dict, strict, assign)
        except RuntimeError as error:
            first = " ".join(str(error).split("\n\t")[1:2]).rstrip(". ")
            message = f"weights do not fit the configuration ({first}): give the config.yaml of the checkpoint's run"
            raise CheckpointError(message) from error

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare what a checkpoint is of with what this is.

        Raises:
            CheckpointError: If they differ.
        """
        check_made_by(checkpoint, **self.identity())

    def on_train_start(self) -> None:
        """All that is learnt from is loaded by now: it must be what a run that goes on began with."""
        if self.resumed is not None:
            check_parents(self.resumed, self.parents)
            self.resumed = None
