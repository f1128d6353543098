"""Phase 1: ensembles that predict each task's rewards (Algorithm 2)."""

from collections.abc import Sequence
from typing import NoReturn

import torch
from torch import Tensor
from torch.optim import Adam

from mbml_lightning.algorithms.algorithm import Algorithm
from mbml_lightning.nets.stacked import MLP
from mbml_lightning.types import TaskBatch


class TransitionEnsemble(Algorithm):
    """E predictors of r(s, a) for each of K tasks.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if fewer than all official training tasks.
        members: E; 1 for the "no ensemble" ablation.
        hidden: Hidden layers of a member.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        independent_minibatches: Every member draws its own transitions (Algorithm 2) instead of sharing them
            (official code); sharing leaves less disagreement, which the published thresholds are tuned for.
        updates_per_block: Gradient updates of a Lightning batch.
        seed: Seed of the updates' randomness.
    """

    def __init__(
        self,
        distribution: str,
        num_tasks: int | None = None,
        members: int = 20,
        hidden: Sequence[int] = (128,),
        lr: float = 3e-4,
        batch_size: int = 128,
        independent_minibatches: bool = False,
        updates_per_block: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters()
        self.lr, self.minibatches = lr, members if independent_minibatches else 1
        self.batch_size = batch_size * self.minibatches
        inputs = self.family.observation_dim + self.family.action_dim
        self.ensemble = MLP([inputs, *hidden, 1], members=(members, self.num_tasks))

    def configure_optimizers(self) -> Adam:
        """One Adam over all members of all tasks."""
        return self.adam(self.lr, self.ensemble)

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Squared error, mean over transitions and sum over members and tasks."""
        t = batch.transitions
        inputs = torch.cat([t.observations, t.actions], -1).unflatten(1, (self.minibatches, -1)).transpose(0, 1)
        rewards = t.rewards.unflatten(1, (self.minibatches, -1)).transpose(0, 1)
        error = (self.ensemble(inputs).squeeze(-1) - rewards).square()
        self.step(self.optimizer_list()[0], error.mean(-1).sum())
        return {"reward_loss": error.mean()}

    def policy(self) -> NoReturn:
        """An ensemble does not act.

        Raises:
            TypeError: Always.
        """
        raise TypeError("a TransitionEnsemble predicts rewards and does not act: evaluate another method")
