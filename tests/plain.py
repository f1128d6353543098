"""Task inference of one update written out row by row and pair by pair, for references of whole updates."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.optim import Adam

from mbml_lightning.algorithms import contextual
from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.data.relabelling import Relabelled, Relabeller, with_truth
from mbml_lightning.objectives import triplet
from mbml_lightning.types import TaskBatch, Transitions

Masks = dict[str, Tensor]
Rows = list[tuple[Tensor, Tensor, Tensor, Tensor]]


class Scripted(Relabeller):
    """Relabels with given rewards, so that a test knows what was kept."""

    def __init__(self, tasks: int, rows: int, kept_fraction: float = 0.5) -> None:
        self.rewards = torch.randn(tasks, tasks, rows)
        self.trusted = torch.rand(tasks, tasks, rows) < kept_fraction
        self.trusted[0, 1] = False  # a pair without rows

    def __call__(self, contexts: Transitions, index: Tensor) -> Relabelled:
        return with_truth(Relabelled(self.rewards, self.trusted), contexts)


def record_masks(monkeypatch: pytest.MonkeyPatch) -> Masks:
    """The rows that are drawn at random: for the inference context, and as positives of the triplet."""
    drawn: Masks = {}

    def record(name: str, draw: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
        return lambda x, count: drawn.setdefault(name, draw(x, count))

    monkeypatch.setattr(contextual, "draw_rows", record("context", contextual.draw_rows))
    monkeypatch.setattr(triplet, "random_rows", record("positive", triplet.random_rows))
    return drawn


class PlainInference:
    """An ordinary encoder; its posterior, KL and, with a script, relabelled contexts and triplet of margin 2."""

    def __init__(self, model: ContextualAlgorithm, separate, scripted: Scripted | None, beta: float) -> None:
        self.net, self.z_dim, self.scripted, self.beta = (
            separate(model.encoder.mlp),
            model.encoder.z_dim,
            scripted,
            beta,
        )
        self.adam = Adam(self.net.parameters(), 1e-2)

    def infer(self, batch: TaskBatch, masks: Masks, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """A sample of each task's posterior, and the encoder's own losses."""
        contexts = [self.context(batch.contexts, masks, i) for i in range(len(noise))]
        posteriors = [self.posterior(rows) for rows in contexts]
        z = torch.stack([mean + variance**0.5 * noise[i] for i, (mean, variance) in enumerate(posteriors)])
        prior = torch.zeros(self.z_dim), torch.ones(self.z_dim)
        losses = {"kl_loss": self.beta * sum(divergence(*posterior, *prior) for posterior in posteriors)}
        if self.scripted is not None:
            losses["triplet_loss"] = self.triplet(batch.contexts, masks["positive"])
        return z, losses

    def posterior(self, rows: Rows) -> tuple[Tensor, Tensor]:
        """Mean and variance of the product of the factors of (s, a, s', r)."""
        precision = weighted = torch.zeros(self.z_dim)
        for s, a, next_s, r in rows:
            mean, spread = self.net(torch.cat([s, a, next_s, r.view(1)])).chunk(2)
            variance = torch.log(1 + torch.exp(spread)).clamp(min=1e-7)
            precision, weighted = precision + 1 / variance, weighted + mean / variance
        return weighted / precision, 1 / precision

    def context(self, c: Transitions, masks: Masks, i: int) -> Rows:
        """All of c_i and the relabelled rows that were drawn for it."""
        count = c.rewards.shape[1]
        rows = [row(c, i, t) for t in range(count)]
        if self.scripted is not None:
            chosen = [divmod(n, count) for n, drawn in enumerate(masks["context"][i]) if drawn]
            assert chosen and all(self.scripted.trusted[i, j, t] and i != j for j, t in chosen)
            rows += [row(c, j, t, self.scripted.rewards[i, j, t]) for j, t in chosen]
        return rows

    def triplet(self, c: Transitions, positives: Tensor) -> Tensor:
        """Mean over the pairs that have rows."""
        terms = []
        tasks, count = c.rewards.shape
        for i, j in itertools.permutations(range(tasks), 2):
            kept = [t for t in range(count) if self.scripted.trusted[i, j, t]]
            if kept:
                anchor = self.posterior([row(c, j, t, self.scripted.rewards[i, j, t]) for t in kept])
                positive = self.posterior([row(c, i, t) for t in range(count) if positives[i, j, t]])
                negative = self.posterior([row(c, j, t) for t in kept])
                terms.append((divergence(*anchor, *positive) - divergence(*anchor, *negative) + 2).clamp(min=0))
        return sum(terms) / len(terms)


def row(c: Transitions, j: int, t: int, reward: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    reward = c.rewards[j, t] if reward is None else reward
    return c.observations[j, t], c.actions[j, t], c.next_observations[j, t], reward


def divergence(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """KL(first || second), summed over dimensions."""
    total = torch.zeros(())
    for m, v, n, w in zip(mean, variance, other_mean, other_variance, strict=True):
        total = total + 0.5 * torch.log(w / v) + (v + (m - n) ** 2) / (2 * w) - 0.5
    return total


def descend(loss: Tensor, *adams: Adam) -> None:
    """One step of some optimisers; what else got a gradient is left as it is."""
    for adam in adams:
        adam.zero_grad()
    loss.backward()
    for adam in adams:
        adam.step()
