"""PEARL against Algorithm 6 and the order of its authors' code, with torch.distributions, one transition at a time."""

import copy

import pytest
import torch
from references import Masks, PlainInference, Scripted, assert_same_weights, descend, move_targets, separate
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from torch.optim import Adam

from mbml_lightning.algorithms import PEARL
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import TaskBatch

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, C, A, Z = 3, 6, 4, 2, 3
SETTINGS = {
    "num_tasks": K,
    "encoder_hidden": (8, 7),
    "hidden": (9, 6),
    "z_dim": Z,
    "lr": 1e-2,
    "batch_size": B,
    "context_size": C,
    "discount": 0.9,
    "tau": 0.1,
    "reward_scale": 3.0,
    "regularisation": 0.2,
    "kl_weight": 0.3,
}


class PlainPEARL:
    """Losses are means over all tasks' transitions; networks ordinary, an Adam each."""

    def __init__(self, model: PEARL, inference: PlainInference) -> None:
        self.inference = inference
        self.q = [separate(model.q.mlp, critic) for critic in range(2)]
        self.v, self.v_target = separate(model.v.mlp), separate(model.v_target.mlp)
        self.actor = separate(model.actor.mlp)
        self.adam = {net: Adam(net.parameters(), 1e-2) for net in (*self.q, self.v, self.actor)}

    def act(self, s: Tensor, z: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """An action, its log density, and the pull on the Gaussian's parameters."""
        mean, log_std = self.actor(torch.cat([s, z])).chunk(2)
        log_std = log_std.clamp(-20, 2)
        squashed = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform(cache_size=1))
        a = squashed.transforms[0](mean + log_std.exp() * noise)
        return a, Independent(squashed, 1).log_prob(a), 0.2 * (mean**2).mean() + 0.2 * (log_std**2).mean()

    def soft_value(self, s: Tensor, a: Tensor, z: Tensor, log_prob: Tensor) -> Tensor:
        q1, q2 = (net(torch.cat([s, a, z]))[0] for net in self.q)
        return torch.minimum(q1, q2) - log_prob

    def update(self, batch: TaskBatch, masks: Masks, noise: list[Tensor]) -> dict[str, float]:
        z, losses = self.inference.infer(batch, masks, noise[0])
        inference_loss, fixed = sum(losses.values()), z.detach()
        rows = [(i, b) for i in range(K) for b in range(B)]
        s, a, r, next_s, end = batch.transitions
        acted = {(i, b): self.act(s[i, b], fixed[i], noise[1][i * B + b]) for i, b in rows}
        errors = []
        for i, b in rows:
            next_v = self.v_target(torch.cat([next_s[i, b], z[i]]))[0].detach()
            y = 3 * r[i, b] + (0.0 if end[i, b] else 0.9 * next_v)
            errors += [(net(torch.cat([s[i, b], a[i, b], z[i]]))[0] - y) ** 2 for net in self.q]
        losses["q_loss"] = sum(errors) / (K * B)
        descend(losses["q_loss"] + inference_loss, *(self.adam[net] for net in self.q), self.inference.adam)
        soft = {(i, b): self.soft_value(s[i, b], acted[i, b][0], fixed[i], acted[i, b][1]) for i, b in rows}
        v = {(i, b): self.v(torch.cat([s[i, b], fixed[i]]))[0] for i, b in rows}
        losses["v_loss"] = sum((v[n] - soft[n].detach()) ** 2 for n in rows) / (K * B)
        descend(losses["v_loss"], self.adam[self.v])
        losses["actor_loss"] = sum(acted[n][2] - soft[n] for n in rows) / (K * B)
        descend(losses["actor_loss"], self.adam[self.actor])
        move_targets(0.1, (self.v, self.v_target))
        return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("relabelled", [False, True], ids=["alone", "relabelled, with a triplet"])
def test_update_is_algorithm_6(make, batch, noise, masks, relabelled: bool) -> None:
    scripted = Scripted(K, C) if relabelled else None
    more = {"relabeller": scripted, "hooks": {"triplet": RelabelledTriplet()}} if relabelled else {}
    model = make(PEARL, **SETTINGS, **more)
    plain = PlainPEARL(model, PlainInference(model, scripted, 0.3))
    for _ in range(4):
        data = batch(K, B, C)
        noise.clear()
        losses = model.update(data)
        losses.pop("kept_fraction", None)
        drawn = list(noise)
        assert sorted(x.shape for x in drawn) == [(K, Z), (K * B, A)]
        expected = plain.update(data, masks, drawn)
        assert {name: x.item() for name, x in losses.items()} == pytest.approx(expected, rel=1e-8)
    assert data.transitions.terminations.any() and not data.transitions.terminations.all()
    assert_same_weights(model.encoder.mlp, plain.inference.net)
    for critic in range(2):
        assert_same_weights(model.q.mlp, plain.q[critic], critic)
    assert_same_weights(model.v.mlp, plain.v)
    assert_same_weights(model.v_target.mlp, plain.v_target)
    assert_same_weights(model.actor.mlp, plain.actor)


def test_begins_with_a_target_equal_to_but_apart_from_the_value() -> None:
    model = PEARL("UmazeGoalM", **SETTINGS)
    for p, p_target in zip(model.v.parameters(), model.v_target.parameters(), strict=True):
        assert torch.equal(p, p_target) and p.data_ptr() != p_target.data_ptr() and not p_target.requires_grad


def test_the_target_moves_by_tau_from_the_second_update_on_too(make, batch) -> None:
    model = make(PEARL, **SETTINGS)
    model.update(batch(K, B, C))
    before = copy.deepcopy(model.v_target)
    model.update(batch(K, B, C))
    for p, old, new in zip(model.v.parameters(), before.parameters(), model.v_target.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * p)


def test_policy_acts_with_the_mean_given_z(make) -> None:
    model = make(PEARL, **SETTINGS)
    policy, s, z = model.policy(), torch.randn(K, B, 4), torch.randn(K, B, Z)
    assert policy.noise_dim == 0
    torch.testing.assert_close(policy.act(s, z, torch.randn(K, B, 0)), torch.tanh(model.actor(s, z)[0]))
