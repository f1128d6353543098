"""What all methods share: the one place that knows Lightning's bookkeeping."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning import envs
from mbml_lightning.data.checkpoints import CHECKPOINT_KEY, check_made_by
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.types import Policy, TaskBatch


class Algorithm(L.LightningModule, ABC):
    """A method that learns K tasks at once.

    A Lightning batch is a *block* of gradient updates: hooks, loggers and progress bars cost once a block, and
    ``global_step`` counts updates. Every block draws its randomness from (seed, global_step), so that a resumed run
    repeats the uninterrupted one.

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
    loaded_updates: int = 0

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
        """Descend ``loss`` in the optimiser's own parameters; ranks average their gradients in one message."""
        parameters = optimizer.param_groups[0]["params"]
        gradients: Sequence[Tensor] = torch.autograd.grad(loss, parameters)
        if self.trainer.world_size > 1:
            gradients = _average_over_ranks(gradients)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        optimizer.step()

    # The loop --------------------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Ranks begin with the weights of rank 0."""
        self.sampler = torch.Generator(self.device)
        if self.trainer.world_size > 1:
            with torch.no_grad():
                for tensor in (*self.parameters(), *self.buffers()):
                    dist.broadcast(tensor, 0)

    def training_step(self, block: int, index: int) -> None:
        """A block of updates; every rank draws its own rows and noise."""
        updates = min(self.updates_per_block, self.trainer.max_steps - self.global_step)
        key = _key(self.seed, self.global_step) + self.global_rank
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
            yield data.rows.draw(self.sampler, self.batch_size, self.context_rows)

    def log_block(self, means: dict[str, Tensor]) -> None:
        """Write the means of a block's losses: one transfer from the device.

        Raises:
            FloatingPointError: If a loss is not finite.
        """
        values = torch.stack(list(means.values())).tolist()
        for name, value in zip(means, values, strict=True):
            if not math.isfinite(value):
                raise FloatingPointError(
                    f"{name} is {value} after {self.global_step} updates: lower model.lr or look at the data"
                )
        self.write({f"train/{name}": value for name, value in zip(means, values, strict=True)})
        self.log("updates", float(self.global_step), prog_bar=True, logger=False)

    def write(self, metrics: dict[str, float]) -> None:
        """To all loggers, against updates."""
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def validation_step(self, *_: Any) -> None:
        """Nothing: the evaluation callback runs at the end of the validation epoch."""

    # Checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Write down what the weights are of."""
        data = getattr(self.trainer, "datamodule", None)
        checkpoint[CHECKPOINT_KEY] = {
            "method": type(self).__name__,
            "distribution": self.family.name,
            "data": getattr(data, "digest", None),
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse weights of another task distribution or another method."""
        self.check_checkpoint(checkpoint)
        self.loaded_updates = checkpoint["global_step"]

    def check_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Compare what a checkpoint is of with what this is.

        Raises:
            CheckpointError: If they differ.
        """
        check_made_by(checkpoint, method=type(self).__name__, distribution=self.family.name)


def move_towards(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Polyak averaging: target <- (1 - rate) target + rate online."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), rate)


def _average_over_ranks(gradients: Sequence[Tensor]) -> list[Tensor]:
    flat = torch.cat([g.reshape(-1) for g in gradients])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    parts = flat.split([g.numel() for g in gradients])
    return [part.view_as(g) for part, g in zip(parts, gradients, strict=True)]


def _key(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.blake2s(f"{seed}/{step}".encode(), digest_size=7).digest(), "big")
