"""Baseline: behaviour cloning of all tasks' batches by one policy that infers its task."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Adam

from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.arguments import PositiveFloat, PositiveInt
from mbml_lightning.nets.gaussian_actor import GaussianActor, squashed_log_prob
from mbml_lightning.policies.gaussian import GaussianPolicy
from mbml_lightning.training.algorithm import total
from mbml_lightning.types import TaskBatch


class MultiTaskBC(ContextualAlgorithm):
    """A policy pi(a | s, z) that imitates the actions of all batches, good or bad; it learns no value.

    Args:
        distribution: Name of the task distribution.
        hidden: Hidden layers of the actor.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        inference: As for `ContextualAlgorithm`.
    """

    def __init__(
        self,
        distribution: str,
        hidden: Sequence[PositiveInt] = (1024,) * 7,
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 128,
        **inference: Any,
    ) -> None:
        super().__init__(distribution, **inference)
        self.lr, self.batch_size = lr, batch_size
        self.actor = GaussianActor(*self.dims, hidden, self.encoder.z_dim)

    def configure_optimizers(self) -> Adam:
        """Make one Adam for the actor and the encoder."""
        return self.adam(self.lr, self.encoder, self.actor, self.hooks)

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Raise the likelihood of the batches' actions; the encoder learns from it too."""
        step = self.infer(batch, self.relabel(batch))
        t, z = self.standardised(batch.transitions), step.z_of_rows(batch.transitions.rewards.shape[1])
        mean, log_std = self.actor(t.observations, z)
        losses = {"actor_loss": -squashed_log_prob(mean, log_std, t.actions).mean()}
        losses = self.with_encoder_losses(losses, step)
        self.step(self.optimizer_list()[0], total(losses))
        return self.logged(losses, step)

    def policy(self) -> GaussianPolicy:
        """The policy that acts with the actor's mean."""
        return GaussianPolicy(self.actor, self.distribution.action_dim, True, self.inputs)
