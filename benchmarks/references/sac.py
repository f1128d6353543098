"""Phase 0, plainly."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from benchmarks.references.networks import Losses, Stacks, descend, mean_over_tasks, polyak, unstack
from mbml_lightning.algorithms import SAC
from mbml_lightning.types import TaskBatch


class SACReference:
    """K separate soft actor-critics."""

    def __init__(self, ours: SAC) -> None:
        self.ours, k = ours, ours.num_tasks
        actors, q, targets = unstack(ours.actor.mlp), unstack(ours.q.mlp), unstack(ours.q_target.mlp)
        self.stacks: Stacks = {"actor": actors, "q": q, "q_target": targets}
        self.tasks = [SACTask(ours, actors[i], (q[i], q[k + i]), (targets[i], targets[k + i])) for i in range(k)]

    def update(self, batch: TaskBatch) -> Losses:
        """Every task in turn."""
        t = batch.transitions
        next_noise, noise = torch.randn_like(t.actions), torch.randn_like(t.actions)
        return mean_over_tasks(
            [task.update(*(x[i] for x in (*t, next_noise, noise))) for i, task in enumerate(self.tasks)]
        )


class SACTask:
    """Soft actor-critic (Haarnoja et al., 2018) of one task."""

    def __init__(
        self, ours: SAC, actor: nn.Sequential, q: tuple[nn.Sequential, ...], q_target: tuple[nn.Sequential, ...]
    ):
        self.actor, self.q, self.q_target = actor, q, q_target
        self.discount, self.tau, self.target_entropy = ours.discount, ours.tau, -ours.distribution.action_dim
        self.log_alpha = torch.zeros(1, device=ours.device, requires_grad=True)
        self.q_adams = [Adam(net.parameters(), ours.lr) for net in q]
        self.actor_adam, self.alpha_adam = Adam(actor.parameters(), ours.lr), Adam([self.log_alpha], ours.lr)

    def sample(self, s: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """A squashed action and its log density."""
        mean, log_std = self.actor(s).chunk(2, -1)
        log_std = log_std.clamp(-20, 2)
        u = mean + log_std.exp() * noise
        log_prob = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
        log_prob = log_prob - 2 * (math.log(2) - u - F.softplus(-2 * u))
        return u.tanh(), log_prob.sum(-1)

    def update(
        self, s: Tensor, a: Tensor, r: Tensor, next_s: Tensor, end: Tensor, next_noise: Tensor, noise: Tensor
    ) -> Losses:
        """Critics, actor, temperature, targets."""
        alpha = self.log_alpha.exp().detach()
        with torch.no_grad():
            next_a, next_log_prob = self.sample(next_s, next_noise)
            next_rows = torch.cat([next_s, next_a], -1)
            next_q = torch.min(*(net(next_rows).squeeze(-1) for net in self.q_target))
            target = r + (1 - end) * self.discount * (next_q - alpha * next_log_prob)
        rows = torch.cat([s, a], -1)
        q_losses = [F.mse_loss(net(rows).squeeze(-1), target) for net in self.q]
        for loss, adam in zip(q_losses, self.q_adams, strict=True):
            descend(loss, adam)
        new_a, log_prob = self.sample(s, noise)
        new_rows = torch.cat([s, new_a], -1)
        actor_loss = (alpha * log_prob - torch.min(*(net(new_rows).squeeze(-1) for net in self.q))).mean()
        descend(actor_loss, self.actor_adam)
        temperature_loss = -(self.log_alpha * (log_prob.detach() + self.target_entropy)).mean()
        descend(temperature_loss, self.alpha_adam)
        for target_net, net in zip(self.q_target, self.q, strict=True):
            polyak(target_net, net, self.tau)
        return {"q_loss": q_losses[0] + q_losses[1], "actor_loss": actor_loss, "temperature_loss": temperature_loss}
