"""The mathematics written out in loops, one row, pair or task at a time: what the package's tensor code is compared to.

Nothing here calls the functions that it is a reference for.
"""

import itertools
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.data.relabelling import Relabelled, Relabeller
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.types import Gaussian, TaskBatch, Transitions

Masks = dict[str, Tensor]
"""Rows that an update drew at random, by name: those of the inference context, and the triplet's positives."""
Row = tuple[Tensor, Tensor, Tensor, Tensor]
"""One transition as (s, a, s', r), in the order in which the encoder reads it."""


# Gaussians ------------------------------------------------------------------------------------------------------


def gaussian(*shape: int, scale: float = 1.0) -> Gaussian:
    """Random Gaussians with means of a given scale and variances in [0.5, 1.5]."""
    return Gaussian(scale * torch.randn(shape), torch.rand(shape) + 0.5)


def at(g: Gaussian, *index: int) -> Gaussian:
    """The Gaussian at an index."""
    return Gaussian(g.mean[index], g.variance[index])


def divergence(p: Gaussian, q: Gaussian) -> Tensor:
    """KL(p || q) of two single Gaussians, dimension by dimension."""
    total = torch.zeros(())
    for m, v, n, w in zip(*p, *q, strict=True):
        total = total + 0.5 * torch.log(w / v) + (v + (m - n) ** 2) / (2 * w) - 0.5
    return total


def product(factors: Iterable[Gaussian], z_dim: int) -> Gaussian:
    """The normalised product of single Gaussians, one factor after the other; without any, the prior N(0, I)."""
    precision = weighted = torch.zeros(z_dim)
    for mean, variance in factors:
        precision, weighted = precision + 1 / variance, weighted + mean / variance
    known = precision > 0
    return Gaussian(torch.where(known, weighted / precision, 0.0), torch.where(known, 1 / precision, 1.0))


# Networks -------------------------------------------------------------------------------------------------------


def separate(mlp: MLP, *index: int) -> nn.Sequential:
    """A copy of the network at one index of a stack, built from PyTorch's own layers."""
    layers: list[nn.Module] = []
    for weight, bias in zip(mlp.weights, mlp.biases, strict=True):
        linear = nn.Linear(*weight.shape[-2:])
        linear.weight.data, linear.bias.data = weight.data[index].T.clone(), bias.data[index].clone()
        layers += [linear, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def assert_same_weights(mlp: MLP, net: nn.Sequential, *index: int) -> None:
    """The network at one index of a stack has the weights of an ordinary one."""
    for ours, expected in zip(separate(mlp, *index).parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=0, atol=1e-9)


def spread(net: nn.Module, std: float = 1.0) -> nn.Module:
    """Give a network weights that differ everywhere, so that no mix-up goes unseen."""
    for p in net.parameters():
        nn.init.normal_(p, std=std)
    return net


def descend(loss: Tensor, *adams: Adam) -> None:
    """One step of some optimisers; what else got a gradient is left as it is."""
    for adam in adams:
        adam.zero_grad()
    loss.backward()
    for adam in adams:
        adam.step()


def move_targets(rate: float, *pairs: tuple[nn.Module, nn.Module]) -> None:
    """Polyak averaging of (online, target) networks, weight by weight."""
    for online, target in pairs:
        for p, p_target in zip(online.parameters(), target.parameters(), strict=True):
            p_target.data = rate * p.data + (1 - rate) * p_target.data


def learners(model: ContextualAlgorithm, loss: Tensor) -> set[str]:
    """Networks that get a gradient that is not zero."""
    if not loss.requires_grad:
        return set()
    found = set()
    nets = dict(model.named_children())
    nets |= dict(nets.pop("networks").named_children()) if "networks" in nets else {}
    for name, net in nets.items():
        parameters = [p for p in net.parameters() if p.requires_grad]
        gradients = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) if parameters else ()
        if any(g is not None and g.any() for g in gradients):
            found.add(name)
    return found


# Task inference -------------------------------------------------------------------------------------------------


def row(c: Transitions, j: int, t: int, reward: Tensor | None = None) -> Row:
    """Row t of task j, perhaps with another task's reward."""
    reward = c.rewards[j, t] if reward is None else reward
    return c.observations[j, t], c.actions[j, t], c.next_observations[j, t], reward


def infer(net: nn.Module, rows: Iterable[Row], z_dim: int) -> Gaussian:
    """The posterior of some rows under an encoder's network: the product of their factors."""

    def factor(s: Tensor, a: Tensor, next_s: Tensor, r: Tensor) -> Gaussian:
        mean, raw = net(torch.cat([s, a, next_s, r.view(1)])).chunk(2)
        return Gaussian(mean, torch.log(1 + torch.exp(raw)).clamp(min=1e-7))

    return product([factor(*row) for row in rows], z_dim)


class Scripted(Relabeller):
    """Relabels with given rewards, so that a test knows what was kept."""

    def __init__(self, tasks: int, rows: int, kept_fraction: float = 0.5) -> None:
        self.shape, self.kept_fraction = (tasks, tasks, rows), kept_fraction
        self.draw()

    def draw(self) -> None:
        """Other rewards, and others of them trusted."""
        self.rewards, self.trusted = torch.randn(self.shape), torch.rand(self.shape) < self.kept_fraction
        self.trusted[0, 1] = False  # a pair without rows

    def count(self) -> int:
        """Rows that one task takes from another."""
        return sum(int(self.trusted[i, j].sum()) for i, j in itertools.permutations(range(self.shape[0]), 2))

    def __call__(self, contexts: Transitions, index: Tensor) -> Relabelled:
        rewards, kept = self.rewards.clone(), self.trusted.clone()
        for i in range(self.shape[0]):
            rewards[i, i], kept[i, i] = contexts.rewards[i], False
        return Relabelled(rewards, kept)


class PlainInference:
    """The encoder's part of an update: posteriors, their KL and, with a script, relabelling and a triplet of margin 2.

    Args:
        model: The method whose encoder's weights are copied.
        scripted: Its relabeller, if it has one.
        beta: Weight of KL(q || N(0, I)), summed over tasks.
    """

    def __init__(self, model: ContextualAlgorithm, scripted: Scripted | None, beta: float) -> None:
        self.net, self.z_dim = separate(model.encoder.mlp), model.encoder.z_dim
        self.scripted, self.beta = scripted, beta
        self.adam = Adam(self.net.parameters(), 1e-2)

    def infer(self, batch: TaskBatch, masks: Masks, noise: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """A sample of each task's posterior, and the encoder's own losses."""
        posteriors = [self.posterior(self.context(batch.contexts, masks, i)) for i in range(len(noise))]
        z = torch.stack([mean + variance**0.5 * noise[i] for i, (mean, variance) in enumerate(posteriors)])
        prior = Gaussian(torch.zeros(self.z_dim), torch.ones(self.z_dim))
        losses = {"kl_loss": self.beta * sum(divergence(posterior, prior) for posterior in posteriors)}
        if self.scripted is not None:
            losses["triplet_loss"] = self.triplet(batch.contexts, masks["positive"])
        return z, losses

    def posterior(self, rows: Iterable[Row]) -> Gaussian:
        return infer(self.net, rows, self.z_dim)

    def context(self, c: Transitions, masks: Masks, i: int) -> list[Row]:
        """All of c_i and the relabelled rows that were drawn for it, as many as c_i has or as there are."""
        tasks, count = c.rewards.shape
        rows = [row(c, i, t) for t in range(count)]
        if self.scripted is not None:
            chosen = [divmod(n, count) for n, drawn in enumerate(masks["context"][i]) if drawn]
            assert all(self.scripted.trusted[i, j, t] and i != j for j, t in chosen)
            available = sum(int(self.scripted.trusted[i, j].sum()) for j in range(tasks) if j != i)
            assert len(chosen) == min(count, available)
            rows += [row(c, j, t, self.scripted.rewards[i, j, t]) for j, t in chosen]
        return rows

    def triplet(self, c: Transitions, positives: Tensor) -> Tensor:
        """Eq. 8 and 9: the mean over the pairs that have rows."""
        terms = []
        tasks, count = c.rewards.shape
        for i, j in itertools.permutations(range(tasks), 2):
            kept = [t for t in range(count) if self.scripted.trusted[i, j, t]]
            if not kept:
                continue
            chosen = [t for t in range(count) if positives[i, j, t]]
            assert len(chosen) == len(kept), "as many positives as anchors"
            anchor = self.posterior(row(c, j, t, self.scripted.rewards[i, j, t]) for t in kept)
            positive = self.posterior(row(c, i, t) for t in chosen)
            negative = self.posterior(row(c, j, t) for t in kept)
            terms.append((divergence(anchor, positive) - divergence(anchor, negative) + 2).clamp(min=0))
        return sum(terms) / len(terms)
