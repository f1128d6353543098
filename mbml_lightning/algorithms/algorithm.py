"""What all methods share: the one place that knows Lightning's bookkeeping."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning import envs, ranks
from mbml_lightning.algorithms import task_sharding
from mbml_lightning.algorithms.strategy import Ranks
from mbml_lightning.data.checkpoints import (
    CheckpointError,
    check_configuration,
    check_data,
    check_made_by,
    check_parents,
    content_hash,
    seal,
)
from mbml_lightning.data.provenance import made_by
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.types import ConfigurationError, Policy, TaskBatch

NOT_FINITE = "lower model.lr or look at the data; the last checkpoint is kept"


class Algorithm(L.LightningModule, ABC):
    """A method that learns K tasks at once.

    A Lightning batch is a *block* of gradient updates: hooks, loggers and progress bars cost once a block, and
    ``global_step`` counts updates. Every block draws its randomness from (seed, global_step), so that a resumed run
    repeats the uninterrupted one.

    On several ranks a method whose tasks have nothing in common (`stacked`) learns some tasks on each; any other learns
    all tasks on each, from some of every batch's rows, and gradients are averaged. Either way it is the run of one
    process.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if fewer than all official tasks of the split.
        updates_per_block: Gradient updates of a block.
        seed: Seed of the updates' randomness.
        split: Which official tasks are the K tasks.
    """

    def __init__(
        self,
        distribution: str,
        num_tasks: int | None = None,
        updates_per_block: int = 50,
        seed: int = 0,
        split: str = "train",
    ) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.encoder = None
        self.family: TaskDistribution = envs.distribution(distribution)
        self.split, self.tasks = split, self.family.tasks(split)[:num_tasks]
        self.updates_per_block, self.seed = updates_per_block, seed
        self.share = ranks.Share(self.num_tasks, range(self.num_tasks))
        self.parents: dict[str, str] = {}  # SHA-256 of the weights that this learns from, by what they are

    # What a method is ------------------------------------------------------------------------------------------

    @abstractmethod
    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """One gradient update; returns its named losses."""

    @abstractmethod
    def policy(self) -> Policy:
        """How the method acts when it is evaluated."""

    batch_size: int
    context_rows: int = 0
    stacked: bool = True
    """Whether each training task has a member of its own, so that the method acts on those tasks only."""
    split: str = "train"
    """The task set whose first K tasks are learnt."""
    encoder: TaskEncoder | None
    """Infers the task; None for methods that need no z."""
    share: ranks.Share
    """What this rank does of every batch."""
    loaded_updates: int = 0
    config: dict[str, Any] | None = None
    """The whole configuration of the command, where one made this."""
    resumed: dict[str, Any] | None = None
    """The checkpoint that the training goes on from."""

    # What a method may use -------------------------------------------------------------------------------------

    @property
    def num_tasks(self) -> int:
        """K."""
        return len(self.tasks)

    @property
    def dims(self) -> tuple[int, int]:
        """Dimensions of states and of actions."""
        return self.family.observation_dim, self.family.action_dim

    @property
    def trained_updates(self) -> int:
        """Updates that made the weights, in this run or before the checkpoint."""
        return max(self.global_step, self.loaded_updates)

    def adam(self, lr: float, *modules: nn.Module | nn.Parameter) -> Adam:
        """One optimiser for all parameters of ``modules``."""
        parameters = [p for m in modules for p in (m.parameters() if isinstance(m, nn.Module) else [m])]
        return Adam(parameters, lr, fused=True)

    def optimizer_list(self) -> list[Adam]:
        """The bare optimisers, in the order of `configure_optimizers`."""
        found = self.optimizers(use_pl_optimizer=False)
        return cast("list[Adam]", found if isinstance(found, list) else [found])

    def step(self, optimizer: Adam, loss: Tensor) -> None:
        """Descend ``loss`` in the optimiser's own parameters; ranks that share rows average their gradients."""
        parameters = optimizer.param_groups[0]["params"]
        gradients: Sequence[Tensor] = torch.autograd.grad(loss, parameters)
        if self.share.parts > 1:
            gradients = ranks.average(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    def randn(self, *shape: int) -> Tensor:
        """Standard normal numbers for the rows of a batch, ``(k, b, ...)`` or with its first axes joined."""
        return self.share.randn(shape, self.device)

    # The loop --------------------------------------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Take this rank's share of the training; acting, every rank knows all tasks.

        Raises:
            ConfigurationError: If ranks run under a strategy that would mix what they learn.
        """
        if ranks.world_size() > 1 and not isinstance(self.trainer.strategy, Ranks):
            raise ConfigurationError("trainer.strategy: several ranks need `--trainer conf/trainer/ddp.yaml`")
        if stage != "fit":
            return
        self.share = (ranks.Share.of_tasks if self.stacked else ranks.Share.of_rows)(self.num_tasks)
        if self.stacked and not self.share.is_whole:
            task_sharding.keep_tasks(self, self.share.tasks)

    def on_fit_start(self) -> None:
        """Ranks that share rows begin with the weights of rank 0."""
        self.sampler = torch.Generator(self.device)
        if not self.stacked:
            with torch.no_grad():
                ranks.spread([*self.parameters(), *self.buffers()])

    def on_train_start(self) -> None:
        """All that is learnt from is loaded by now: it must be what a run that goes on began with."""
        if self.resumed is not None:
            check_parents(self.resumed, self.parents)
            self.resumed = None

    def training_step(self, block: int, index: int) -> None:
        """A block of updates."""
        updates = min(self.updates_per_block, self.trainer.max_steps - self.global_step)
        key = _key(self.seed, self.global_step)
        self.sampler.manual_seed(key)
        torch.manual_seed(key)
        sums: dict[str, Tensor] = {}
        for batch in self.batches(updates):
            for name, value in self.update(batch).items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_by(updates)
        self.log_block({name: value / updates for name, value in sums.items()})

    def batches(self, updates: int) -> Iterator[TaskBatch]:
        """The batches of a block, drawn on the device."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        for _ in range(updates):
            yield data.rows.draw(self.sampler, self.batch_size, self.context_rows, self.share)

    def log_block(self, means: dict[str, Tensor]) -> None:
        """Write the means of a block's losses: one transfer from the device.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        values = self.over_ranks(torch.stack(list(means.values()))).tolist()
        for name, value in zip(means, values, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value} after {self.global_step} updates: {NOT_FINITE}")
        self.write({f"train/{name}": value for name, value in zip(means, values, strict=True)})
        self.log("updates", float(self.global_step), prog_bar=True, logger=False)

    def over_ranks(self, means: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Means over all tasks and rows from those over this rank's."""
        if not self.stacked:
            return ranks.average([means])[0]
        repeats = ranks.rank() not in ranks.first_ranks(self.num_tasks)
        return ranks.total(means * (0 if repeats else len(self.share.tasks) / self.num_tasks))

    def write(self, metrics: dict[str, float]) -> None:
        """To all loggers, against updates."""
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def validation_step(self, *_: Any) -> None:
        """Nothing: the evaluation callback runs at the end of the validation epoch."""

    # Checkpoints -----------------------------------------------------------------------------------------------

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


def move_towards(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Polyak averaging: target <- (1 - rate) target + rate online."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), rate)


def _key(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.blake2s(f"{seed}/{step}".encode(), digest_size=7).digest(), "big")
