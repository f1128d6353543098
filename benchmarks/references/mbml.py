"""Phase 2, plainly."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Adam

from benchmarks.references.networks import Losses, Stacks, descend, unstack
from mbml_lightning.algorithms import MBML
from mbml_lightning.data.relabelling import EnsembleRelabeller
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import TaskBatch, Transitions


class MBMLReference:
    """Phase 2 with relabelling in every step, contexts padded to equal length and the triplets pair by pair."""

    def __init__(self, ours: MBML) -> None:
        self.ours, k = ours, ours.num_tasks
        names = ("encoder", "q", "generator", "perturbation")
        self.stacks: Stacks = {name: unstack(getattr(ours, name).mlp) for name in names}
        self.encoder, self.q, self.generator, self.perturbation = (self.stacks[name][0] for name in names)
        self.adams = [Adam(self.stacks[name][0].parameters(), ours.lr) for name in names]
        relabeller, triplet, teachers = ours.relabeller, ours.hooks["triplet"], ours.teachers
        assert isinstance(relabeller, EnsembleRelabeller) and isinstance(triplet, RelabelledTriplet)
        members, self.threshold, self.margin = unstack(relabeller.ensemble), relabeller.threshold, triplet.margin
        self.ensembles = [members[i::k] for i in range(k)]
        assert isinstance(teachers.q, partial), "the first critic of both"
        stacks = (teachers.q.func.mlp, teachers.generator.mlp, teachers.perturbation.mlp)
        self.teachers = list(zip(*(unstack(mlp)[:k] for mlp in stacks), strict=True))

    def update(self, batch: TaskBatch) -> Losses:
        """The encoder and Q_D learn from triplets, divergence and values, G_D and xi_D from their teachers."""
        t, c, (k, size) = batch.transitions, batch.contexts, batch.transitions.rewards.shape
        assert c is not None
        rewards, kept = self.relabel(c)
        contexts = self.contexts(c, rewards, kept, torch.rand(k, kept[0].numel(), device=kept.device))
        mean, variance = self.posterior(contexts, 2 * kept.shape[-1])
        z = (mean + variance.sqrt() * torch.randn_like(mean)).repeat_interleave(size, 0)
        noise = torch.randn(k, size, self.ours.generator.latent_dim, device=kept.device).clamp(-0.5, 0.5)
        values, candidates, corrections = self.teach(t, noise)
        s, a, nu = (x.flatten(0, 1) for x in (t.observations, t.actions, noise))
        losses = {
            "triplet_loss": self.triplet(c, rewards, kept, torch.rand(kept.shape, device=kept.device)),
            "kl_loss": self.ours.kl_weight * 0.5 * (variance + mean**2 - 1 - variance.log()).sum(),
            "q_loss": F.mse_loss(self.q(torch.cat([s, a, z], -1)).squeeze(-1), values),
        }
        encoder, q, generator, perturbation = self.adams
        descend(torch.stack(list(losses.values())).sum(), encoder, q)
        z = z.detach()
        candidate_loss = F.mse_loss(torch.tanh(self.generator(torch.cat([s, nu, z], -1))), candidates)
        descend(candidate_loss, generator)
        correction = torch.tanh(self.perturbation(torch.cat([s, candidates, z], -1)))
        perturbation_loss = F.mse_loss(correction, corrections)
        descend(perturbation_loss, perturbation)
        return losses | {"candidate_loss": candidate_loss, "perturbation_loss": perturbation_loss}

    @torch.no_grad()
    def relabel(self, c: Transitions) -> tuple[Tensor, Tensor]:
        """Rewards of every task's ensemble for all contexts, ``(K, K, C)``, and whether they are trusted."""
        rows = torch.cat([c.observations, c.actions], -1).flatten(0, 1)
        rewards, kept = [], []
        for i, members in enumerate(self.ensembles):
            predictions = torch.stack([net(rows).squeeze(-1) for net in members]).view(-1, *c.rewards.shape)
            mean, trusted = predictions.mean(0), predictions.std(0) < self.threshold
            mean[i], trusted[i] = c.rewards[i], False
            rewards.append(mean)
            kept.append(trusted)
        return torch.stack(rewards), torch.stack(kept)

    def contexts(self, c: Transitions, rewards: Tensor, kept: Tensor, priority: Tensor) -> list[Tensor]:
        """For each task its own rows and as many relabelled ones, drawn from all that were kept."""
        own, contexts = self.rows(c, c.rewards), []
        for i in range(len(kept)):
            pool, count = self.rows(c, rewards[i]).flatten(0, 1), min(kept.shape[-1], int(kept[i].sum()))
            chosen = torch.where(kept[i].flatten(), priority[i], -1.0).topk(count).indices
            contexts.append(torch.cat([own[i], pool[chosen]]))
        return contexts

    @staticmethod
    def rows(c: Transitions, rewards: Tensor) -> Tensor:
        """(s, a, s', r) of all contexts under given rewards."""
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

    def triplet(self, c: Transitions, rewards: Tensor, kept: Tensor, priority: Tensor) -> Tensor:
        """Eq. 8 and 9, pair by pair: relabelled rows, as many rows of the one task, the same rows of the other."""
        own, anchors, positives, negatives = self.rows(c, c.rewards), [], [], []
        for i in range(len(kept)):
            relabelled = self.rows(c, rewards[i])
            for j in range(len(kept)):
                if i != j and (count := int(kept[i, j].sum())):
                    anchors.append(relabelled[j][kept[i, j]])
                    positives.append(own[i][priority[i, j].argsort() < count])
                    negatives.append(own[j][kept[i, j]])
        mean, variance = (x.chunk(3) for x in self.posterior([*anchors, *positives, *negatives], kept.shape[-1]))
        distances = [self.divergence(mean[0], variance[0], mean[n], variance[n]) for n in (1, 2)]
        return F.relu(distances[0] - distances[1] + self.margin).mean()

    @staticmethod
    def divergence(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
        """KL(N(mean, variance) || N(other_mean, other_variance))."""
        ratio = variance / other_variance
        return 0.5 * (ratio - ratio.log() + (mean - other_mean) ** 2 / other_variance - 1).sum(-1)

    @torch.no_grad()
    def teach(self, t: Transitions, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What each task's teachers say about its rows."""
        said: list[tuple[Tensor, ...]] = []
        for (q, generator, perturbation), s, a, nu in zip(self.teachers, t.observations, t.actions, noise, strict=True):
            candidates = torch.tanh(generator(torch.cat([s, nu], -1)))
            corrections = torch.tanh(perturbation(torch.cat([s, candidates], -1)))
            said.append((q(torch.cat([s, a], -1)).squeeze(-1), candidates, corrections))
        values, all_candidates, all_corrections = (torch.cat(x) for x in zip(*said, strict=True))
        return values, all_candidates, all_corrections
