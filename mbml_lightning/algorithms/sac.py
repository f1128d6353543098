"""Phase 0: soft actor-critic on K stacked tasks, whose experience becomes the batches B_i."""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning import ranks
from mbml_lightning.arguments import NonNegativeInt, PositiveFloat, PositiveInt, Seed, UnitInterval
from mbml_lightning.data.blocks import Block
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.nets.gaussian_actor import GaussianActor, squashed_sample
from mbml_lightning.nets.heads import QFunction
from mbml_lightning.objectives import sac as loss
from mbml_lightning.objectives import td
from mbml_lightning.policies.gaussian import GaussianPolicy
from mbml_lightning.seeds import seed_of
from mbml_lightning.training.algorithm import move_towards
from mbml_lightning.training.per_task import PerTask
from mbml_lightning.types import TaskBatch, Transitions


class SAC(PerTask):
    """K independent soft actor-critics; every update follows one environment step of each task.

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
        copy_targets: Begin with targets equal to the critics; the official code draws them independently.
        updates_per_block: Updates, and steps before them, of a Lightning batch.
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
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed, split)
        self.save_hyperparameters()
        self.batch_size, self.lr, self.discount, self.tau, self.warmup = batch_size, lr, discount, tau, warmup
        dims, k = (self.distribution.observation_dim, self.distribution.action_dim), self.num_tasks
        self.actor = GaussianActor(*dims, actor_hidden, members=(k,))
        self.q = QFunction(*dims, critic_hidden, members=(2, k))
        self.q_target = copy.deepcopy(self.q) if copy_targets else QFunction(*dims, critic_hidden, members=(2, k))
        self.q_target.requires_grad_(False)
        self.log_alpha = nn.Parameter(torch.zeros(k, 1))

    def configure_optimizers(self) -> list[Adam]:
        """Make an Adam each for the critics, the actors and the temperatures."""
        return [self.adam(self.lr, part) for part in (self.q, self.actor, self.log_alpha)]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Train critics, actors and temperatures, then move the targets."""
        q, actor, temperature = self.optimizer_list()
        t, alpha = batch.transitions, self.log_alpha.detach().exp()
        losses = {"q_loss": td.squared_error(self.q(t.observations, t.actions), self.target(t, alpha))}
        self.step(q, losses["q_loss"])
        a, log_prob = self.sample_actions(t.observations)
        losses["actor_loss"] = loss.actor_loss(self.q(t.observations, a), log_prob, alpha)
        self.step(actor, losses["actor_loss"])
        losses["temperature_loss"] = loss.temperature_loss(
            self.log_alpha, log_prob.detach(), -float(self.distribution.action_dim)
        )
        self.step(temperature, losses["temperature_loss"])
        move_towards(self.q_target, self.q, self.tau)
        return {name: value / len(self.share.tasks) for name, value in losses.items()}

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
        return GaussianPolicy(self.actor, self.distribution.action_dim, deterministic=True)

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
        super().on_fit_start()
        if self.rows.count < self.warmup:
            self.collect(self.warmup - self.rows.count)

    def training_step(self, block: Block, index: int) -> None:
        """Take as many environment steps of every task as the block has updates, then make the updates."""
        returns = [r for part in ranks.gather(self.collect(len(block))) for r in part]
        super().training_step(block, index)
        if returns:
            mean = sum(returns) / len(returns)
            self.write({"train/return": mean})
            self.log("return", mean, prog_bar=True, logger=False, batch_size=1)

    def collect(self, steps: int) -> list[float]:
        """Take ``steps`` environment steps of every task with samples from the actors; returns of ended episodes."""
        torch.manual_seed(seed_of(self.seed, self.split, self.rows.count, "collect", bits=56))
        return self.data.collect(self.behaviour(), steps)

    def behaviour(self) -> GaussianPolicy:
        """The policies that collect: they sample from the actors."""
        return GaussianPolicy(self.actor, self.distribution.action_dim)

    def on_fit_end(self) -> None:
        """Write the store once all steps are taken; Lightning calls this when training ends, also early."""
        whole = self.data.rows.count >= self.warmup + self.trainer.max_steps
        if whole and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            self.data.write_store(Path(self.data.store), {"method": "SAC", **self.provenance()})
