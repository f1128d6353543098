"""Baseline: PEARL trained from the batches alone (Algorithm 6)."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.arguments import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from mbml_lightning.nets.gaussian_actor import GaussianActor, squashed_sample
from mbml_lightning.nets.heads import QFunction, StateValue
from mbml_lightning.objectives import pearl as loss
from mbml_lightning.policies.gaussian import GaussianPolicy
from mbml_lightning.training.algorithm import move_towards, total
from mbml_lightning.types import TaskBatch, Transitions


class PEARL(ContextualAlgorithm):
    """Soft actor-critic with a state value, conditioned on a task identity; the critics train the encoder.

    Args:
        distribution: Name of the task distribution.
        hidden: Hidden layers of the critics, the value and the actor.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        discount: gamma.
        tau: Rate at which the target value follows.
        reward_scale: Rewards are multiplied by it, which weighs them against entropy.
        regularisation: Weight of the squares of the actor's means and log standard deviations.
        z_dim: Dimensions of the task identity.
        context_size: Context rows a task and update.
        inference: As for `ContextualAlgorithm`.
    """

    def __init__(
        self,
        distribution: str,
        hidden: Sequence[PositiveInt] = (300, 300, 300),
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 256,
        discount: UnitInterval = 0.99,
        tau: UnitInterval = 0.005,
        reward_scale: PositiveFloat = 5.0,
        regularisation: NonNegativeFloat = 1e-3,
        z_dim: PositiveInt = 5,
        context_size: PositiveInt = 128,
        **inference: Any,
    ) -> None:
        super().__init__(distribution, z_dim=z_dim, context_size=context_size, **inference)
        self.lr, self.batch_size, self.discount, self.tau = lr, batch_size, discount, tau
        self.reward_scale, self.regularisation = reward_scale, regularisation
        self.q = QFunction(*self.dims, hidden, z_dim, members=(2,))
        self.v = StateValue(self.distribution.observation_dim, hidden, z_dim)
        self.actor = GaussianActor(*self.dims, hidden, z_dim)
        self.v_target = copy.deepcopy(self.v).requires_grad_(False)

    def configure_optimizers(self) -> list[Adam]:
        """Make an Adam each for the critics with the encoder, the value, and the actor."""
        groups = ((self.q, self.encoder, self.hooks), (self.v,), (self.actor,))
        return [self.adam(self.lr, *modules) for modules in groups]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Train critics with encoder, value and actor, then move the target (Algorithm 6, lines 5 to 13)."""
        q, v, actor = self.optimizer_list()
        step = self.infer(batch, self.relabel(batch))
        t = self.standardised(batch.transitions).map(lambda x: x.flatten(0, 1))  # (K B): one set for all tasks
        z = step.z_of_rows(batch.transitions.rewards.shape[1]).flatten(0, 1)
        fixed_z = z.detach()
        mean, log_std = self.actor(t.observations, fixed_z)
        a, log_prob = squashed_sample(mean, log_std, self.randn(*mean.shape))
        losses = self.with_encoder_losses({"q_loss": self.q_loss(t, z)}, step)
        self.step(q, total(losses))
        q_new = self.q(t.observations, a, fixed_z)
        value = loss.soft_value(q_new, log_prob).detach()
        losses["v_loss"] = (self.v(t.observations, fixed_z) - value).square().mean()
        self.step(v, losses["v_loss"])
        losses["actor_loss"] = loss.actor_loss(q_new, log_prob, mean, log_std, self.regularisation)
        self.step(actor, losses["actor_loss"])
        move_towards(self.v_target, self.v, self.tau)
        return self.logged(losses, step)

    def q_loss(self, t: Transitions, z: Tensor) -> Tensor:
        """Squared error of both critics; the encoder learns from it through z."""
        with torch.no_grad():
            next_v = self.v_target(t.next_observations, z)
            target = loss.q_target(t.rewards, t.terminations, next_v, self.discount, self.reward_scale)
        return loss.q_loss(self.q(t.observations, t.actions, z), target)

    def policy(self) -> GaussianPolicy:
        """The policy that acts with the actor's mean."""
        return GaussianPolicy(self.actor, self.distribution.action_dim, True, self.inputs)
