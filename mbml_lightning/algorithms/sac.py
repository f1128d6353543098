"""Phase 0: soft actor-critic on K stacked tasks, whose experience becomes the batches B_i."""

import copy
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning import ranks
from mbml_lightning.arguments import NonNegativeInt, PositiveFloat, PositiveInt, Seed, UnitInterval
from mbml_lightning.data.blocks import Block
from mbml_lightning.data.budget import steps_of
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.nets.gaussian_actor import GaussianActor, squashed_sample
from mbml_lightning.nets.heads import QFunction
from mbml_lightning.nets.standardiser import Standardiser
from mbml_lightning.objectives import sac as loss
from mbml_lightning.objectives import td
from mbml_lightning.policies.gaussian import GaussianPolicy
from mbml_lightning.seeds import seed_of
from mbml_lightning.training.algorithm import move_towards
from mbml_lightning.training.per_task import PerTask
from mbml_lightning.types import TaskBatch, Transitions


class SAC(PerTask):
    """K independent soft actor-critics, whose updates follow steps of each task's environments.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if not as many as official tasks of the split.
        actor_hidden: Hidden layers of the actor.
        critic_hidden: Hidden layers of the two critics; 7 x 1024 in the official code.
        lr: Learning rate of Adam for actor, critics and temperature.
        batch_size: Transitions a task and update.
        discount: gamma.
        tau: Rate at which target networks follow.
        warmup: Steps a task taken with the initial policy before the first update.
        updates_per_step: Updates after a step of all copies of a task's environment.
        actor_every: Updates of the critics for one of actor and temperature.
        initial_temperature: alpha at the beginning.
        layer_norm: Normalise what enters the critics' ReLUs.
        standardise: Standardise states for all networks, by each task's own statistics.
        copy_targets: Begin with targets equal to the critics; the official code draws them independently.
        updates_per_block: Updates of a Lightning batch, before which their steps are taken.
        seed: Seed of the updates' randomness.
        split: Which official tasks; policies of ``test`` or ``ood`` collect contexts for the evaluation there.
    """

    learns_from = OnlineDataModule

    def __init__(
        self,
        distribution: str,
        num_tasks: PositiveInt | None = None,
        actor_hidden: Sequence[PositiveInt] = (256, 256),
        critic_hidden: Sequence[PositiveInt] = (256, 256),
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 256,
        discount: UnitInterval = 0.99,
        tau: UnitInterval = 0.005,
        warmup: NonNegativeInt = 10_000,
        copy_targets: bool = True,
        updates_per_block: PositiveInt = 50,
        seed: Seed = 0,
        split: str = "train",
        updates_per_step: PositiveInt = 1,
        actor_every: PositiveInt = 1,
        initial_temperature: PositiveFloat = 1.0,
        layer_norm: bool = False,
        standardise: bool = False,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed, split)
        self.save_hyperparameters()
        self.updates_per_step, self.actor_every, self.done = updates_per_step, actor_every, 0
        self.batch_size, self.lr, self.discount, self.tau, self.warmup = batch_size, lr, discount, tau, warmup
        k = self.num_tasks
        self.inputs = Standardiser(self.dims[0], (k,)) if standardise else self.inputs
        self.actor = GaussianActor(*self.dims, actor_hidden, members=(k,))
        critics = partial(QFunction, *self.dims, critic_hidden, members=(2, k), layer_norm=layer_norm)
        self.q = critics()
        self.q_target = copy.deepcopy(self.q) if copy_targets else critics()
        self.q_target.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.full((k, 1), math.log(initial_temperature)))

    def configure_optimizers(self) -> list[Adam]:
        """Make an Adam each for the critics, the actors and the temperatures."""
        return [self.adam(self.lr, part) for part in (self.q, self.actor, self.log_alpha)]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Train critics, actors and temperatures, then move the targets."""
        t, alpha = self.standardised(batch.transitions), self.log_alpha.detach().exp()
        losses = {"q_loss": td.squared_error(self.q(t.observations, t.actions), self.target(t, alpha))}
        self.step(self.optimizer_list()[0], losses["q_loss"])
        if self.done % self.actor_every == 0:
            losses |= self.update_actor(t.observations, alpha)
        move_towards(self.q_target, self.q, self.tau)
        self.done += 1
        return {name: value / len(self.share.tasks) for name, value in losses.items()}

    def update_actor(self, s: Tensor, alpha: Tensor) -> dict[str, Tensor]:
        """Train actors, then temperatures; returns their losses."""
        _, actor, temperature = self.optimizer_list()
        a, log_prob = self.sample_actions(s)
        actor_loss = loss.actor_loss(self.q(s, a), log_prob, alpha)
        self.step(actor, actor_loss)
        target_entropy = -float(self.distribution.action_dim)
        temperature_loss = loss.temperature_loss(self.log_alpha, log_prob.detach(), target_entropy)
        self.step(temperature, temperature_loss)
        return {"actor_loss": actor_loss, "temperature_loss": temperature_loss}

    @torch.no_grad()
    def target(self, t: Transitions, alpha: Tensor) -> Tensor:
        """Target of the critics: reward plus the discounted soft value of the next state."""
        next_a, next_log_prob = self.sample_actions(t.next_observations)
        next_q = self.q_target(t.next_observations, next_a)
        return loss.soft_target(t.rewards, t.terminations, next_q, next_log_prob, alpha, self.discount)

    def sample_actions(self, s: Tensor) -> tuple[Tensor, Tensor]:
        """Sample reparametrised actions and their log densities."""
        mean, log_std = self.actor(s)
        return squashed_sample(mean, log_std, self.randn(*mean.shape))

    def policy(self) -> GaussianPolicy:
        """The policies of all tasks, each acting with its own actor's mean."""
        return GaussianPolicy(self.actor, self.distribution.action_dim, True, self.inputs)

    def identity(self) -> dict[str, str]:
        """Names of method, distribution and task split, by which a checkpoint is recognised."""
        return super().identity() | {"split": self.split}

    # Collection ------------------------------------------------------------------------------------------------

    @property
    def data(self) -> OnlineDataModule:
        """The data module that collects."""
        data: OnlineDataModule = self.trainer.datamodule  # type: ignore[attr-defined]
        return data

    def on_fit_start(self) -> None:
        """Take the warm-up steps with the initial policy; Lightning calls this before the first block."""
        self.collect(0)
        super().on_fit_start()

    def training_step(self, block: Block, index: int) -> None:
        """Take the environment steps that the block's updates follow, then make the updates."""
        self.done = self.global_step
        returns = [r for part in ranks.gather(self.collect(self.done + len(block))) for r in part]
        self.follow_states()
        super().training_step(block, index)
        if returns:
            mean = sum(returns) / len(returns)
            self.write({"train/return": mean})
            self.log("return", mean, prog_bar=True, logger=False, batch_size=1)

    def collect(self, updates: int) -> list[float]:
        """Take what is missing of the steps for so many updates; returns of the episodes that end."""
        torch.manual_seed(seed_of(self.seed, self.split, self.rows.count, "collect", bits=56))
        missing = self.steps_of(updates) - self.rows.count
        return self.data.collect(self.behaviour(), missing // self.data.copies)

    def steps_of(self, updates: int) -> int:
        """Count the steps of each task that so many updates need, warm-up included."""
        return steps_of(updates, self.warmup, self.data.copies, self.updates_per_step)

    def behaviour(self) -> GaussianPolicy:
        """The policies that collect: they sample from the actors."""
        return GaussianPolicy(self.actor, self.distribution.action_dim, False, self.inputs)

    def on_fit_end(self) -> None:
        """Write the store once all steps are taken; Lightning calls this when training ends, also early."""
        whole = self.data.rows.count >= self.steps_of(self.trainer.max_steps)
        if whole and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.data.write_store(Path(self.data.store), {"method": "SAC", **self.provenance()})
