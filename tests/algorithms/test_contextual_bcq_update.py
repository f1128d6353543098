"""Contextual BCQ against Algorithm 7, written out one task, one transition and one candidate after the other."""

import copy

import pytest
import torch
from references import Masks, PlainInference, Scripted, assert_same_weights, descend, move_targets, separate
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms import ContextualBCQ
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import TaskBatch

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, C, M, A, L, Z = 3, 5, 4, 4, 2, 4, 3
SETTINGS = {
    "num_tasks": K,
    "encoder_hidden": (8, 7),
    "q_hidden": (8, 7),
    "vae_hidden": (9, 6),
    "perturbation_hidden": (7,),
    "z_dim": Z,
    "lr": 1e-2,
    "batch_size": B,
    "context_size": C,
    "discount": 0.9,
    "tau": 0.1,
    "soft_min": 0.6,
    "phi": 0.2,
    "candidates": M,
}


class PlainContextualBCQ:
    """Losses are means over all tasks' transitions; networks ordinary, an Adam each, targets averaged one by one."""

    def __init__(self, model: ContextualBCQ, inference: PlainInference) -> None:
        self.inference = inference
        nets = model.networks
        self.q = [separate(nets.q.mlp, critic) for critic in range(2)]
        self.q_target = [separate(nets.q_target.mlp, critic) for critic in range(2)]
        self.xi, self.xi_target = separate(nets.perturbation.mlp), separate(nets.perturbation_target.mlp)
        self.decoder, self.latent = separate(nets.generator.mlp), separate(nets.latent.mlp)
        self.adam = {net: Adam(net.parameters(), 1e-2) for net in (*self.q, self.xi, self.decoder, self.latent)}

    def decode(self, s: Tensor, nu: Tensor, z: Tensor) -> Tensor:
        return torch.tanh(self.decoder(torch.cat([s, nu, z])))

    def perturbed(self, xi: nn.Module, s: Tensor, a: Tensor, z: Tensor) -> Tensor:
        return (a + 0.2 * torch.tanh(xi(torch.cat([s, a, z])))).clamp(-1, 1)

    def vae_loss(self, s: Tensor, a: Tensor, z: Tensor, noise: Tensor) -> Tensor:
        """Eq. 19 of one transition; BCQ averages both terms over dimensions and halves the divergence."""
        mean, log_std = self.latent(torch.cat([s, a, z])).chunk(2)
        std = log_std.clamp(-4, 15).exp()
        divergence = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        return (self.decode(s, mean + std * noise, z) - a).square().mean() + 0.5 * divergence

    def target(self, r: Tensor, next_s: Tensor, end: Tensor, z: Tensor, noise: Tensor) -> Tensor:
        """Eq. 20 of one transition; ``noise`` of its M candidates."""
        values = []
        for m in range(M):
            a = self.decode(next_s, noise[m].clamp(-0.5, 0.5), z)
            a = self.perturbed(self.xi_target, next_s, a, z)
            q = [net(torch.cat([next_s, a, z])).item() for net in self.q_target]
            values.append(0.6 * min(q) + 0.4 * max(q))
        return r + (0.0 if end else 0.9 * max(values))

    def perturbation_loss(self, s: Tensor, z: Tensor, noise: Tensor) -> Tensor:
        a = self.decode(s, noise.clamp(-0.5, 0.5), z).detach()
        return -self.q[0](torch.cat([s, self.perturbed(self.xi, s, a, z), z]))[0]

    def update(self, batch: TaskBatch, masks: Masks, noise: list[Tensor], vae_trains_encoder: bool) -> dict[str, float]:
        z, losses = self.inference.infer(batch, masks, noise[0])
        rows = [(i, b, i * B + b) for i in range(K) for b in range(B)]
        s, a, r, next_s, end = batch.transitions
        fixed = z.detach()
        losses["vae_loss"] = sum(self.vae_loss(s[i, b], a[i, b], fixed[i], noise[1][n]) for i, b, n in rows) / (K * B)
        descend(losses["vae_loss"], self.adam[self.decoder], self.adam[self.latent])
        candidates, errors = noise[2].view(K, B, M, L), []
        for i, b, _ in rows:
            with torch.no_grad():
                y = self.target(r[i, b], next_s[i, b], end[i, b], fixed[i], candidates[i, b])
            errors += [(net(torch.cat([s[i, b], a[i, b], z[i]])) - y).square().sum() for net in self.q]
        losses["q_loss"] = sum(errors) / (K * B)
        total = losses["q_loss"] + sum(losses[name] for name in losses if name in ("kl_loss", "triplet_loss"))
        if vae_trains_encoder:
            total = total + sum(self.vae_loss(s[i, b], a[i, b], z[i], noise[3][n]) for i, b, n in rows) / (K * B)
        descend(total, *(self.adam[net] for net in self.q), self.inference.adam)
        losses["perturbation_loss"] = sum(
            self.perturbation_loss(s[i, b], fixed[i], noise[-1][n]) for i, b, n in rows
        ) / (K * B)
        descend(losses["perturbation_loss"], self.adam[self.xi])
        move_targets(0.1, *zip(self.q, self.q_target, strict=True), (self.xi, self.xi_target))
        return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("vae_trains_encoder", [False, True], ids=["paper", "official"])
@pytest.mark.parametrize("relabelled", [False, True], ids=["alone", "relabelled, with a triplet"])
def test_update_is_algorithm_7(make, batch, noise, masks, relabelled, vae_trains_encoder) -> None:
    scripted = Scripted(K, C) if relabelled else None
    more = {"relabeller": scripted, "hooks": {"triplet": RelabelledTriplet()}, "kl_weight": 0.3} if relabelled else {}
    model = make(ContextualBCQ, **SETTINGS, **more, vae_trains_encoder=vae_trains_encoder)
    plain = PlainContextualBCQ(model, PlainInference(model, scripted, more.get("kl_weight", 0.0)))
    for _ in range(4):
        data = batch(K, B, C)
        noise.clear()
        losses = model.update(data)
        losses.pop("kept_fraction", None)
        drawn = list(noise)
        vae = [(K * B, L)] * vae_trains_encoder
        assert [x.shape for x in drawn] == [(K, Z), (K * B, L), (K * B * M, L), *vae, (K * B, L)]
        expected = plain.update(data, masks, drawn, vae_trains_encoder)
        assert {name: x.item() for name, x in losses.items()} == pytest.approx(expected, rel=1e-8)
    assert data.transitions.terminations.any() and not data.transitions.terminations.all()
    assert_same_weights(model.encoder.mlp, plain.inference.net)
    for critic in range(2):
        assert_same_weights(model.networks.q.mlp, plain.q[critic], critic)
        assert_same_weights(model.networks.q_target.mlp, plain.q_target[critic], critic)
    assert_same_weights(model.networks.perturbation.mlp, plain.xi)
    assert_same_weights(model.networks.perturbation_target.mlp, plain.xi_target)
    assert_same_weights(model.networks.generator.mlp, plain.decoder)
    assert_same_weights(model.networks.latent.mlp, plain.latent)


def test_the_cvae_may_train_the_encoder_and_nothing_else(make, batch) -> None:
    """But for the perturbation, whose noise comes later."""
    data, weights = batch(K, B, C), []
    start = make(ContextualBCQ, **SETTINGS).state_dict()
    for trains in (False, True):
        model = make(ContextualBCQ, **SETTINGS, vae_trains_encoder=trains)
        model.load_state_dict(start)
        torch.manual_seed(1)
        model.update(data)
        weights.append(
            {name: p for name, p in model.state_dict().items() if not name.startswith("networks.perturbation")}
        )
    paper, official = weights
    differ = {name.split(".")[0] for name in paper if not torch.equal(paper[name], official[name])}
    assert differ == {"encoder"}


def test_begins_like_bcq_with_targets_equal_to_but_apart_from_the_critics() -> None:
    model = ContextualBCQ("UmazeGoalM", **SETTINGS)
    for online, target in (
        (model.networks.q, model.networks.q_target),
        (model.networks.perturbation, model.networks.perturbation_target),
    ):
        for p, p_target in zip(online.parameters(), target.parameters(), strict=True):
            assert torch.equal(p, p_target) and p.data_ptr() != p_target.data_ptr() and not p_target.requires_grad
    for net in (model.networks.q, model.networks.perturbation, model.networks.generator, model.networks.latent):
        for weight, bias in zip(net.mlp.weights, net.mlp.biases, strict=True):
            bound = weight.shape[-2] ** -0.5
            assert weight.abs().max() <= bound and bias.abs().max() <= bound
            assert not (bias == 0.1).any()


def test_policy_chooses_by_the_first_critic_given_z(make) -> None:
    model = make(ContextualBCQ, **SETTINGS)
    policy, s, a, z = model.policy(), torch.randn(K, B, 4), torch.randn(K, B, A), torch.randn(K, B, Z)
    expected = copy.deepcopy(model.networks.q)(s.flatten(0, 1), a.flatten(0, 1), z.flatten(0, 1))[0].view(K, B)
    torch.testing.assert_close(policy.q(s, a, z), expected)
    assert (policy.generator, policy.perturbation) == (model.networks.generator, model.networks.perturbation)
    assert (policy.candidates, policy.phi) == (M, 0.2)
