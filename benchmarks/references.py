"""The same updates written plainly: one `nn.Sequential` a network, one Adam an optimiser of the papers, Python loops.

Nothing here is of the package but the types. Each reference takes its weights from the method that it is compared with
and draws its random numbers in the same order, so that under one seed both make the same update.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms import BCQ, MBML, SAC, TransitionEnsemble
from mbml_lightning.nets.stacked import MLP
from mbml_lightning.types import TaskBatch

Losses = dict[str, Tensor]
Stacks = dict[str, list[nn.Sequential]]
"""Networks under the name of the module that holds them as a stack, in the stack's order."""


def unstack(mlp: MLP) -> list[nn.Sequential]:
    """Every network of a stack on its own, with a copy of its weights."""
    count = math.prod(mlp.members)
    layers = [
        (weight.detach().reshape(count, *weight.shape[-2:]), bias.detach().reshape(count, -1))
        for weight, bias in zip(mlp.weights, mlp.biases, strict=True)
    ]
    return [_sequential([(weight[k], bias[k]) for weight, bias in layers]) for k in range(count)]


def _sequential(layers: list[tuple[Tensor, Tensor]]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(*weight.shape, device=weight.device, dtype=weight.dtype)
        linear.weight.data.copy_(weight.T)
        linear.bias.data.copy_(bias)
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def polyak(target: nn.Module, online: nn.Module, rate: float) -> None:
    """The loop over parameters of most implementations."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.copy_(rate * new + (1 - rate) * old)


def descend(loss: Tensor, *optimizers: Adam) -> None:
    """One step of each optimiser down the loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def mean_over_tasks(losses: list[Losses]) -> Losses:
    """What is logged."""
    return {name: torch.stack([task[name].detach() for task in losses]).mean() for name in losses[0]}


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
        self.discount, self.tau, self.target_entropy = ours.discount, ours.tau, -ours.family.action_dim
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
        return {"q_loss": sum(q_losses), "actor_loss": actor_loss, "temperature_loss": temperature_loss}


class BCQReference:
    """K separate BCQs."""

    def __init__(self, ours: BCQ) -> None:
        self.ours, k = ours, ours.num_tasks
        names = ("generator", "latent", "q", "q_target", "perturbation", "perturbation_target")
        self.stacks: Stacks = {name: unstack(getattr(ours, name).mlp) for name in names}
        twins = ("q", "q_target")
        self.tasks = [
            BCQTask(ours, {n: nets[i::k] if n in twins else [nets[i]] for n, nets in self.stacks.items()})
            for i in range(k)
        ]

    def update(self, batch: TaskBatch) -> Losses:
        """Every task in turn."""
        t, candidates = batch.transitions, self.ours.candidates
        shape = (*t.rewards.shape, self.ours.generator.latent_dim)
        noises = (
            torch.randn(shape, device=t.rewards.device),
            torch.randn(shape[0], shape[1] * candidates, shape[2], device=t.rewards.device),
            torch.randn(shape, device=t.rewards.device),
        )
        return mean_over_tasks([task.update(*(x[i] for x in (*t, *noises))) for i, task in enumerate(self.tasks)])


class BCQTask:
    """BCQ (Fujimoto et al., 2019) of one task."""

    def __init__(self, ours: BCQ, nets: Stacks) -> None:
        self.ours = ours
        (self.generator,), (self.latent,), self.q, self.q_target = (
            nets[n] for n in ("generator", "latent", "q", "q_target")
        )
        (self.perturbation,), (self.perturbation_target,) = nets["perturbation"], nets["perturbation_target"]
        vae = [*self.generator.parameters(), *self.latent.parameters()]
        critics = [*self.q[0].parameters(), *self.q[1].parameters()]
        self.vae_adam, self.q_adam = Adam(vae, ours.lr), Adam(critics, ours.lr)
        self.perturbation_adam = Adam(self.perturbation.parameters(), ours.lr)

    def perturbed(self, net: nn.Sequential, s: Tensor, a: Tensor) -> Tensor:
        """a + Phi xi(s, a)."""
        return (a + self.ours.phi * torch.tanh(net(torch.cat([s, a], -1)))).clamp(-1, 1)

    def decode(self, s: Tensor, nu: Tensor) -> Tensor:
        """G(s, nu)."""
        return torch.tanh(self.generator(torch.cat([s, nu], -1)))

    def update(
        self, s: Tensor, a: Tensor, r: Tensor, next_s: Tensor, end: Tensor, noise: Tensor, nu_next: Tensor, nu: Tensor
    ) -> Losses:
        """CVAE, critics, perturbation, targets."""
        rows = torch.cat([s, a], -1)
        mean, log_std = self.latent(rows).chunk(2, -1)
        std = log_std.clamp(-4, 15).exp()
        divergence = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        vae_loss = F.mse_loss(self.decode(s, mean + std * noise), a) + 0.5 * divergence
        descend(vae_loss, self.vae_adam)
        target = self.target(r, next_s, end, nu_next)
        q_loss = sum(F.mse_loss(net(rows).squeeze(-1), target) for net in self.q)
        descend(q_loss, self.q_adam)
        with torch.no_grad():
            candidate = self.decode(s, nu.clamp(-0.5, 0.5))
        candidate = self.perturbed(self.perturbation, s, candidate)
        perturbation_loss = -self.q[0](torch.cat([s, candidate], -1)).mean()
        descend(perturbation_loss, self.perturbation_adam)
        pairs = [*zip(self.q_target, self.q, strict=True), (self.perturbation_target, self.perturbation)]
        for target_net, net in pairs:
            polyak(target_net, net, self.ours.tau)
        return {"vae_loss": vae_loss, "q_loss": q_loss, "perturbation_loss": perturbation_loss}

    @torch.no_grad()
    def target(self, r: Tensor, next_s: Tensor, end: Tensor, nu: Tensor) -> Tensor:
        """The value of the best of several candidates."""
        s = next_s.repeat_interleave(self.ours.candidates, 0)
        a = self.perturbed(self.perturbation_target, s, self.decode(s, nu.clamp(-0.5, 0.5)))
        first, second = (net(torch.cat([s, a], -1)) for net in self.q_target)
        weight = self.ours.soft_min
        value = weight * torch.min(first, second) + (1 - weight) * torch.max(first, second)
        return r + (1 - end) * self.ours.discount * value.view(len(r), -1).amax(1)


class EnsembleReference:
    """K separate ensembles, each of separate networks under one Adam."""

    def __init__(self, ours: TransitionEnsemble) -> None:
        nets, k = unstack(ours.ensemble), ours.num_tasks
        self.stacks: Stacks = {"ensemble": nets}
        self.tasks = [nets[i::k] for i in range(k)]
        self.adams = [Adam([p for net in task for p in net.parameters()], ours.lr) for task in self.tasks]

    def update(self, batch: TaskBatch) -> Losses:
        """Every task in turn; its members share the batch."""
        t, means = batch.transitions, []
        for i, (members, adam) in enumerate(zip(self.tasks, self.adams, strict=True)):
            rows = torch.cat([t.observations[i], t.actions[i]], -1)
            loss = sum(F.mse_loss(net(rows).squeeze(-1), t.rewards[i]) for net in members)
            descend(loss, adam)
            means.append({"reward_loss": loss / len(members)})
        return mean_over_tasks(means)


class MBMLReference:
    """Stage 2 with relabelling in every step, contexts padded to equal length and the triplets pair by pair."""

    def __init__(self, ours: MBML) -> None:
        self.ours, k = ours, ours.num_tasks
        names = ("encoder", "q", "generator", "perturbation")
        self.stacks: Stacks = {name: unstack(getattr(ours, name).mlp) for name in names}
        self.encoder, self.q, self.generator, self.perturbation = (self.stacks[name][0] for name in names)
        self.adams = [Adam(self.stacks[name][0].parameters(), ours.lr) for name in names]
        members = unstack(ours.relabeller.ensemble)
        self.ensembles = [members[i::k] for i in range(k)]
        bcq = ours.teachers.q.__self__
        self.teacher_q = unstack(bcq.q.mlp)[:k]
        self.teacher_generator, self.teacher_perturbation = (
            unstack(net.mlp) for net in (ours.teachers.generator, ours.teachers.perturbation)
        )

    def update(self, batch: TaskBatch) -> Losses:
        """The encoder and Q_D learn from triplets, divergence and values, G_D and xi_D from their teachers."""
        ours, t, device = self.ours, batch.transitions, batch.transitions.rewards.device
        (k, rows), size = batch.contexts.rewards.shape, batch.transitions.rewards.shape[1]
        rewards, kept = self.relabel(batch)
        contexts = self.contexts(batch, rewards, kept, torch.rand(k, k * rows, device=device))
        mean, variance = self.posterior(contexts, 2 * rows)
        z = (mean + variance.sqrt() * torch.randn_like(mean)).repeat_interleave(size, 0)
        noise = torch.randn(k, size, ours.generator.latent_dim, device=device).clamp(-0.5, 0.5)
        triplet_loss = self.triplet(batch, rewards, kept, torch.rand(k, k, rows, device=device))
        kl_loss = ours.kl_weight * 0.5 * (variance + mean**2 - 1 - variance.log()).sum()
        values, candidates, corrections = self.teach(batch, noise)
        s, a, nu = (x.flatten(0, 1) for x in (t.observations, t.actions, noise))
        q_loss = F.mse_loss(self.q(torch.cat([s, a, z], -1)).squeeze(-1), values)
        encoder, q, generator, perturbation = self.adams
        descend(triplet_loss + kl_loss + q_loss, encoder, q)
        z = z.detach()
        candidate_loss = F.mse_loss(torch.tanh(self.generator(torch.cat([s, nu, z], -1))), candidates)
        descend(candidate_loss, generator)
        correction = torch.tanh(self.perturbation(torch.cat([s, candidates, z], -1)))
        perturbation_loss = F.mse_loss(correction, corrections)
        descend(perturbation_loss, perturbation)
        names = ("triplet_loss", "kl_loss", "q_loss", "candidate_loss", "perturbation_loss")
        losses = (triplet_loss, kl_loss, q_loss, candidate_loss, perturbation_loss)
        return {name: loss.detach() for name, loss in zip(names, losses, strict=True)}

    @torch.no_grad()
    def relabel(self, batch: TaskBatch) -> tuple[Tensor, Tensor]:
        """Rewards of every task's ensemble for all contexts, ``(K, K, C)``, and whether they are trusted."""
        c = batch.contexts
        rows = torch.cat([c.observations, c.actions], -1).flatten(0, 1)
        rewards, kept = [], []
        for i, members in enumerate(self.ensembles):
            predictions = torch.stack([net(rows).squeeze(-1) for net in members]).view(-1, *c.rewards.shape)
            mean, trusted = predictions.mean(0), predictions.std(0) < self.ours.relabeller.threshold
            mean[i], trusted[i] = c.rewards[i], False
            rewards.append(mean)
            kept.append(trusted)
        return torch.stack(rewards), torch.stack(kept)

    def contexts(self, batch: TaskBatch, rewards: Tensor, kept: Tensor, priority: Tensor) -> list[Tensor]:
        """For each task its own rows and as many relabelled ones, drawn from all that were kept."""
        k, rows = batch.contexts.rewards.shape
        contexts = []
        for i in range(k):
            pool = self.rows(batch, rewards[i]).flatten(0, 1)
            chosen = torch.where(kept[i].flatten(), priority[i], -1.0).topk(min(rows, int(kept[i].sum()))).indices
            contexts.append(torch.cat([self.rows(batch, batch.contexts.rewards)[i], pool[chosen]]))
        return contexts

    @staticmethod
    def rows(batch: TaskBatch, rewards: Tensor) -> Tensor:
        """(s, a, s', r) of all contexts under given rewards."""
        c = batch.contexts
        return torch.cat([c.observations, c.actions, c.next_observations, rewards.unsqueeze(-1)], -1)

    def posterior(self, contexts: list[Tensor], length: int) -> tuple[Tensor, Tensor]:
        """q(z | c) of many contexts: padded to one length, encoded together, multiplied under a mask."""
        padded = contexts[0].new_zeros(len(contexts), length, contexts[0].shape[-1])
        mask = contexts[0].new_zeros(len(contexts), length, 1)
        for i, context in enumerate(contexts):
            padded[i, : len(context)] = context
            mask[i, : len(context)] = 1
        mean, spread = self.encoder(padded).chunk(2, -1)
        precision = mask / F.softplus(spread).clamp_min(1e-7)
        variance = 1 / precision.sum(1)
        return variance * (precision * mean).sum(1), variance

    def triplet(self, batch: TaskBatch, rewards: Tensor, kept: Tensor, priority: Tensor) -> Tensor:
        """Eq. 8 and 9, pair by pair: relabelled rows, as many rows of the one task, the same rows of the other."""
        own, anchors, positives, negatives = self.rows(batch, batch.contexts.rewards), [], [], []
        for i in range(len(kept)):
            relabelled = self.rows(batch, rewards[i])
            for j in range(len(kept)):
                if i != j and (count := int(kept[i, j].sum())):
                    anchors.append(relabelled[j][kept[i, j]])
                    positives.append(own[i][priority[i, j].argsort() < count])
                    negatives.append(own[j][kept[i, j]])
        mean, variance = (x.chunk(3) for x in self.posterior([*anchors, *positives, *negatives], kept.shape[-1]))
        distances = [self.divergence(mean[0], variance[0], mean[n], variance[n]) for n in (1, 2)]
        return F.relu(distances[0] - distances[1] + self.ours.hooks["triplet"].margin).mean()

    @staticmethod
    def divergence(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
        """KL(N(mean, variance) || N(other_mean, other_variance))."""
        ratio = variance / other_variance
        return 0.5 * (ratio - ratio.log() + (mean - other_mean) ** 2 / other_variance - 1).sum(-1)

    @torch.no_grad()
    def teach(self, batch: TaskBatch, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each task's teachers say about its rows."""
        values, candidates, corrections = [], [], []
        for i, (s, a) in enumerate(zip(batch.transitions.observations, batch.transitions.actions, strict=True)):
            values.append(self.teacher_q[i](torch.cat([s, a], -1)).squeeze(-1))
            candidates.append(torch.tanh(self.teacher_generator[i](torch.cat([s, noise[i]], -1))))
            corrections.append(torch.tanh(self.teacher_perturbation[i](torch.cat([s, candidates[-1]], -1))))
        return torch.cat(values), torch.cat(candidates), torch.cat(corrections)
