"""What all methods share: the one place that knows Lightning's bookkeeping."""

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning import envs, ranks
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.training import sharding as task_sharding
from mbml_lightning.training.checkpointed import NOT_FINITE, Checkpointed
from mbml_lightning.training.strategy import Ranks
from mbml_lightning.types import Policy, TaskBatch


class Algorithm(Checkpointed, ABC):
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
        self.num_tasks = len(self.tasks)
        self.updates_per_block, self.seed = updates_per_block, seed
        self.share = ranks.Share(self.num_tasks, range(self.num_tasks))
        self.parents: dict[str, str] = {}

    # What a method is ------------------------------------------------------------------------------------------

    @abstractmethod
    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """One gradient update; returns its named losses."""

    @abstractmethod
    def policy(self) -> Policy:
        """How the method acts when it is evaluated."""

    batch_size: int
    context_size: int = 0
    context_rows: int = 0
    stacked: bool = True
    """Whether each training task has a member of its own, so that the method acts on those tasks only."""
    split: str = "train"
    """The task set whose first K tasks are learnt."""
    encoder: TaskEncoder | None
    """Infers the task; None for methods that need no z."""

    # What a method may use -------------------------------------------------------------------------------------

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


def move_towards(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Polyak averaging: target <- (1 - rate) target + rate online."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), rate)


def _key(seed: int, step: int) -> int:
    return int.from_bytes(hashlib.blake2s(f"{seed}/{step}".encode(), digest_size=7).digest(), "big")
