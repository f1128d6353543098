"""The base of all methods: the loop over blocks of updates, the optimiser's step, and logging."""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, cast

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning import ranks
from mbml_lightning.arguments import PositiveInt, Seed
from mbml_lightning.data.blocks import Block, Plan
from mbml_lightning.data.offline import OfflineDataModule
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.data.rows import Rows, Window
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.nets.standardiser import Standardiser
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.training.checkpointing import NOT_FINITE, Checkpointed
from mbml_lightning.training.strategy import UnwrappedDDP
from mbml_lightning.types import Policy, TaskBatch, Transitions


class Algorithm(Checkpointed, ABC):
    """A method that learns K tasks with one set of networks.

    A Lightning batch is a `Block` of gradient updates, and ``global_step`` counts updates. On several ranks each one
    learns from some rows of every batch, and gradients are averaged: together they make the run of one process.
    `PerTask` is the base of methods with networks for every task.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if not as many as official tasks of the split.
        updates_per_block: Gradient updates of a block.
        seed: Seed of the updates' randomness.
        split: Which task set the K tasks are.
    """

    batch_size: int
    """Transitions a task and update (B)."""
    context_size: int = 0
    """Context rows a task from which z is inferred (C); 0 for methods that infer no task."""
    context_rows: int = 0
    """Context rows a task and update, for all contexts that are compared."""
    context_window: int | None = None
    """Consecutive transitions of a task that a context is drawn from; None for all."""
    encoder: TaskEncoder | None
    """Infers the task; None for methods that need no z."""
    inputs: nn.Module
    """What the networks see of states: a `Standardiser`, or the states as they are."""
    learns_from: ClassVar[type[OfflineDataModule | OnlineDataModule] | None] = OfflineDataModule
    """Data module of the training: stored batches, or experience collected while learning; None for no training."""

    def __init__(
        self,
        distribution: str,
        num_tasks: PositiveInt | None = None,
        updates_per_block: PositiveInt = 50,
        seed: Seed = 0,
        split: str = "train",
    ) -> None:
        super().__init__(distribution, num_tasks, split)
        self.automatic_optimization = False
        self.encoder = None
        self.inputs = nn.Identity()
        self.updates_per_block, self.seed = updates_per_block, seed

    # To be defined by a method ---------------------------------------------------------------------------------

    @abstractmethod
    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Make one gradient update; returns its named losses."""

    @abstractmethod
    def policy(self) -> Policy:
        """Return the policy that is evaluated."""

    # To be used by a method ------------------------------------------------------------------------------------

    @property
    def dims(self) -> tuple[int, int]:
        """Dimensions of states and of actions."""
        return self.distribution.observation_dim, self.distribution.action_dim

    @property
    def rows(self) -> Rows:
        """Transitions that this rank trains on, those of the data module."""
        data = cast("OfflineDataModule | OnlineDataModule", self.trainer.datamodule)  # type: ignore[attr-defined]
        return data.rows

    @property
    def trained_updates(self) -> int:
        """Updates that made the weights, in this run or before the checkpoint."""
        return max(self.global_step, self.loaded_updates)

    def adam(self, lr: float, *modules: nn.Module | nn.Parameter) -> Adam:
        """Make one optimiser for all parameters of ``modules``."""
        parameters = [p for m in modules for p in (m.parameters() if isinstance(m, nn.Module) else [m])]
        return Adam(parameters, lr, fused=True)

    def optimizer_list(self) -> list[Adam]:
        """Return the bare optimisers, in the order of `configure_optimizers`."""
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
        """Draw standard normal numbers for the rows of a batch, ``(k, b, ...)`` or with its first axes joined."""
        return self.share.randn(shape, self.device)

    def standardised(self, t: Transitions) -> Transitions:
        """Transitions with states as the networks see them."""
        return t._replace(observations=self.inputs(t.observations), next_observations=self.inputs(t.next_observations))

    def follow_states(self) -> None:
        """Let a `Standardiser` of states follow the rows."""
        if isinstance(self.inputs, Standardiser):
            self.inputs.follow(self.rows.states)

    # The loop --------------------------------------------------------------------------------------------------

    @property
    def plan(self) -> Plan:
        """Sizes of batches and blocks, for the data module."""
        window = Window(self.context_size, self.context_window) if self.context_window else None
        return Plan(self.batch_size, self.context_rows, self.updates_per_block, self.seed, self.share, window)

    def setup(self, stage: str) -> None:
        """Take this rank's share when a training begins; Lightning calls this before it loads weights or data."""
        self.check_strategy(self.trainer)
        if stage == "fit":
            self.take_tasks(self.trainer.datamodule.tasks)  # type: ignore[attr-defined]
            self.take_share()

    @staticmethod
    def check_strategy(trainer: L.Trainer) -> None:
        """Refuse a strategy that would mix what ranks learn.

        Raises:
            ConfigurationError: There are several ranks, and another strategy than ours.
        """
        if trainer.world_size > 1 and not isinstance(trainer.strategy, UnwrappedDDP):
            raise ConfigurationError("trainer.strategy: several ranks need `--trainer conf/trainer/ddp.yaml`")

    def take_share(self) -> None:
        """Share the rows of every batch out over ranks."""
        self.share = ranks.Share(self.num_tasks, range(self.num_tasks), ranks.rank(), ranks.world_size())

    def on_fit_start(self) -> None:
        """Give all ranks the weights of rank 0, and look at the states; Lightning calls this before the first block."""
        with torch.no_grad():
            ranks.spread([*self.parameters(), *self.buffers()])
        self.follow_states()

    def training_step(self, block: Block, index: int) -> None:
        """Make the updates of a block, and log the means of the losses over those updates that have them."""
        torch.manual_seed(block.key)
        sums: dict[str, Tensor] = {}  # torchmetrics' running means would cost 0.2 ms an update, these 0.01 ms
        counts: Counter[str] = Counter()
        for batch in block:
            losses = self.update(batch)
            counts.update(losses.keys())
            for name, value in losses.items():
                sums[name] = sums[name] + value.detach() if name in sums else value.detach()
        self.trainer.fit_loop.epoch_loop.manual_optimization.optim_step_progress.increment_by(len(block))
        self.log_block({name: value / counts[name] for name, value in sums.items()})

    def log_block(self, means: dict[str, Tensor]) -> None:
        """Log the means of a block's losses, in one transfer from the device; refuse one that is not finite."""
        values = self.over_ranks(torch.stack(list(means.values()))).tolist()
        logged = dict(zip(means, values, strict=True))
        for name, value in logged.items():
            if not math.isfinite(value):
                raise FloatingPointError(f"{name} is {value} after {self.global_step} updates: {NOT_FINITE}")
        self.write({f"train/{name}": value for name, value in logged.items()})
        self.log("updates", float(self.global_step), prog_bar=True, logger=False)

    def over_ranks(self, means: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Average over all ranks' rows what was averaged over this rank's."""
        return ranks.average([means])[0]

    def write(self, metrics: dict[str, float]) -> None:
        """Send metrics to all loggers, against updates."""
        for logger in self.trainer.loggers:
            logger.log_metrics(metrics, step=self.global_step)

    def validation_step(self, *_: Any) -> None:
        """Do nothing: callbacks evaluate at the end of Lightning's validation."""


def total(losses: Mapping[str, Tensor]) -> Float[Tensor, ""]:
    """Add up named losses."""
    return torch.stack(list(losses.values())).sum()


def move_towards(target: nn.Module, online: nn.Module, rate: float) -> None:
    """Polyak averaging: target <- (1 - rate) target + rate online."""
    with torch.no_grad():
        torch._foreach_lerp_(list(target.parameters()), list(online.parameters()), rate)
