"""K stacked BCQs against K plain ones, written out here from the paper by Fujimoto et al. and Algorithm 7."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from references import assert_same_weights, descend, move_targets, separate
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms import BCQ

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, M, A, L = 3, 6, 4, 2, 4
SETTINGS = {
    "num_tasks": K,
    "hidden": (8, 7),
    "vae_hidden": (9, 6),
    "lr": 1e-2,
    "discount": 0.9,
    "tau": 0.1,
    "soft_min": 0.6,
    "phi": 0.2,
    "candidates": M,
}


class PlainBCQ:
    """One task; losses are means, networks ordinary, targets averaged weight by weight."""

    def __init__(self, bcq: BCQ, k: int) -> None:
        self.q1, self.q2 = (separate(bcq.networks.q.mlp, critic, k) for critic in range(2))
        self.xi, self.decoder = separate(bcq.networks.perturbation.mlp, k), separate(bcq.networks.generator.mlp, k)
        self.encoder = separate(bcq.networks.latent.mlp, k)
        self.targets = {
            self.q1: separate(bcq.networks.q_target.mlp, 0, k),
            self.q2: separate(bcq.networks.q_target.mlp, 1, k),
            self.xi: separate(bcq.networks.perturbation_target.mlp, k),
        }
        self.vae_optimizer = Adam([*self.encoder.parameters(), *self.decoder.parameters()], 1e-2)
        self.q_optimizer = Adam([*self.q1.parameters(), *self.q2.parameters()], 1e-2)
        self.xi_optimizer = Adam(self.xi.parameters(), 1e-2)

    def decode(self, s: Tensor, nu: Tensor) -> Tensor:
        return torch.tanh(self.decoder(torch.cat([s, nu], 1)))

    def perturbed(self, xi: nn.Module, s: Tensor, a: Tensor) -> Tensor:
        return (a + 0.2 * torch.tanh(xi(torch.cat([s, a], 1)))).clamp(-1, 1)

    def vae_loss(self, s: Tensor, a: Tensor, noise: Tensor) -> Tensor:
        mean, log_std = self.encoder(torch.cat([s, a], 1)).chunk(2, 1)
        std = log_std.clamp(-4, 15).exp()
        kl = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        return F.mse_loss(self.decode(s, mean + std * noise), a) + 0.5 * kl

    def target(self, r: Tensor, next_s: Tensor, end: Tensor, noise: Tensor) -> Tensor:
        """One transition and one candidate after the other; ``noise`` of M candidates a transition."""
        y = []
        for t in range(B):
            values = []
            for m in range(M):
                s = next_s[t : t + 1]
                a = self.decode(s, noise[t * M + m].clamp(-0.5, 0.5).unsqueeze(0))
                a = self.perturbed(self.targets[self.xi], s, a)
                q = [self.targets[net](torch.cat([s, a], 1)).item() for net in (self.q1, self.q2)]
                values.append(0.6 * min(q) + 0.4 * max(q))
            y.append(r[t].item() + (0.0 if end[t] else 0.9 * max(values)))
        return torch.tensor(y)

    def q_loss(self, s: Tensor, a: Tensor, y: Tensor) -> Tensor:
        q1, q2 = (net(torch.cat([s, a], 1))[:, 0] for net in (self.q1, self.q2))
        return F.mse_loss(q1, y) + F.mse_loss(q2, y)

    def perturbation_loss(self, s: Tensor, noise: Tensor) -> Tensor:
        a = self.decode(s, noise.clamp(-0.5, 0.5)).detach()
        a = self.perturbed(self.xi, s, a)
        return -self.q1(torch.cat([s, a], 1)).mean()

    def update(self, s, a, r, next_s, end, noise: list[Tensor]) -> dict[str, float]:
        losses = {"vae_loss": self.vae_loss(s, a, noise[0])}
        descend(losses["vae_loss"], self.vae_optimizer)
        with torch.no_grad():
            y = self.target(r, next_s, end, noise[1])
        losses["q_loss"] = self.q_loss(s, a, y)
        descend(losses["q_loss"], self.q_optimizer)
        losses["perturbation_loss"] = self.perturbation_loss(s, noise[2])
        descend(losses["perturbation_loss"], self.xi_optimizer)
        move_targets(0.1, *self.targets.items())
        return {name: loss.item() for name, loss in losses.items()}


def test_update_equals_separate_updates(make, batch, noise) -> None:
    bcq = make(BCQ, **SETTINGS)
    plain = [PlainBCQ(bcq, k) for k in range(K)]
    for _ in range(4):
        data = batch(K, B)
        noise.clear()
        losses = bcq.update(data)
        drawn = list(noise)
        assert [x.shape for x in drawn] == [(K, B, L), (K, B * M, L), (K, B, L)]
        expected = [plain[k].update(*(x[k] for x in data.transitions), [x[k] for x in drawn]) for k in range(K)]
        for name, value in losses.items():
            assert value.item() == pytest.approx(sum(e[name] for e in expected) / K, rel=1e-8), name
    for k in range(K):
        for critic, net in enumerate((plain[k].q1, plain[k].q2)):
            assert_same_weights(bcq.networks.q.mlp, net, critic, k)
            assert_same_weights(bcq.networks.q_target.mlp, plain[k].targets[net], critic, k)
        assert_same_weights(bcq.networks.perturbation.mlp, plain[k].xi, k)
        assert_same_weights(bcq.networks.perturbation_target.mlp, plain[k].targets[plain[k].xi], k)
        assert_same_weights(bcq.networks.generator.mlp, plain[k].decoder, k)
        assert_same_weights(bcq.networks.latent.mlp, plain[k].encoder, k)


def test_begins_with_targets_equal_to_but_apart_from_the_critics() -> None:
    bcq = BCQ("UmazeGoalM", **SETTINGS)
    for online, target in (
        (bcq.networks.q, bcq.networks.q_target),
        (bcq.networks.perturbation, bcq.networks.perturbation_target),
    ):
        for p, p_target in zip(online.parameters(), target.parameters(), strict=True):
            assert torch.equal(p, p_target)
            assert p.data_ptr() != p_target.data_ptr()
            assert not p_target.requires_grad


def test_networks_begin_like_pytorchs_linear_layers() -> None:
    bcq = BCQ("UmazeGoalM", **(SETTINGS | {"hidden": (400, 300), "vae_hidden": (200, 200)}))
    for net in (bcq.networks.q, bcq.networks.perturbation, bcq.networks.generator, bcq.networks.latent):
        for weight, bias in zip(net.mlp.weights, net.mlp.biases, strict=True):
            bound = 1 / math.sqrt(weight.shape[-2])
            assert 0.9 * bound < weight.abs().max() <= bound
            assert bias.abs().max() <= bound
            assert not (bias == 0.1).any()


def test_targets_move_by_tau_and_only_through_averaging(make, batch) -> None:
    bcq = make(BCQ, **SETTINGS)
    bcq.update(batch(K, B))
    for online, target in (
        (bcq.networks.q, bcq.networks.q_target),
        (bcq.networks.perturbation, bcq.networks.perturbation_target),
    ):
        before = copy.deepcopy(target)
        bcq.update(batch(K, B))
        for p, old, new in zip(online.parameters(), before.parameters(), target.parameters(), strict=True):
            torch.testing.assert_close(new, 0.9 * old + 0.1 * p)
            assert new.grad is None


def test_each_loss_moves_its_own_networks_only(make, batch) -> None:
    """The generator gets no gradient from values, nor the critics from perturbations."""
    bcq = make(BCQ, **SETTINGS)
    t = batch(K, B).transitions
    nets = {name: getattr(bcq.networks, name) for name in ("generator", "latent", "q", "perturbation")}
    moved = {"vae_loss": {"generator", "latent"}, "q_loss": {"q"}, "perturbation_loss": {"perturbation", "q"}}
    for name, expected in moved.items():
        bcq.zero_grad()
        getattr(bcq.networks, name)(t, bcq.randn).backward()
        assert {net for net, x in nets.items() if any(p.grad is not None for p in x.parameters())} == expected
    assert all(
        p.grad is None for x in (bcq.networks.q_target, bcq.networks.perturbation_target) for p in x.parameters()
    )
    # the critics' gradient of the last loss is not used: their optimiser does not step on it
    q = [p.detach().clone() for p in bcq.networks.q.parameters()]
    bcq.step(bcq.optimizer_list()[2], bcq.networks.perturbation_loss(t, bcq.randn))
    assert all(torch.equal(p, old) for p, old in zip(bcq.networks.q.parameters(), q, strict=True))


def test_perturbation_follows_the_first_critic(make, batch) -> None:
    bcq = make(BCQ, **SETTINGS)
    bcq.networks.perturbation_loss(batch(K, B).transitions, bcq.randn).backward()
    gradient = bcq.networks.q.mlp.weights[0].grad
    assert gradient[0].any()
    assert not gradient[1].any()


def test_policy_chooses_by_the_first_critic(make) -> None:
    bcq = make(BCQ, **SETTINGS)
    policy = bcq.policy()
    s, a = torch.randn(K, B, 4), torch.randn(K, B, A)
    assert torch.equal(policy.q(s, a, None), bcq.networks.q(s, a)[0])
    assert (policy.generator, policy.perturbation) == (bcq.networks.generator, bcq.networks.perturbation)
    assert (policy.candidates, policy.phi) == (M, 0.2)
