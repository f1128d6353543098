"""Behaviour cloning of all tasks against torch.distributions, one transition after the other."""

import pytest
import torch
from references import Masks, PlainInference, Scripted, assert_same_weights, descend, separate
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from torch.optim import Adam

from mbml_lightning.algorithms import MultiTaskBC
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import TaskBatch

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, C, Z = 3, 6, 4, 3
SETTINGS = {
    "num_tasks": K,
    "encoder_hidden": (8, 7),
    "hidden": (9, 6),
    "z_dim": Z,
    "lr": 1e-2,
    "batch_size": B,
    "context_size": C,
    "kl_weight": 0.3,
}


class PlainBC:
    """Minus the mean log-likelihood of the batches' actions; those at the edge count as 0.999."""

    def __init__(self, model: MultiTaskBC, inference: PlainInference) -> None:
        self.inference, self.actor = inference, separate(model.actor.mlp)
        self.adam = Adam(self.actor.parameters(), 1e-2)

    def surprise(self, s: Tensor, a: Tensor, z: Tensor) -> Tensor:
        mean, log_std = self.actor(torch.cat([s, z])).chunk(2)
        squashed = TransformedDistribution(Normal(mean, log_std.clamp(-20, 2).exp()), TanhTransform())
        return -Independent(squashed, 1).log_prob(a.clamp(-0.999, 0.999))

    def update(self, batch: TaskBatch, masks: Masks, noise: list[Tensor]) -> dict[str, float]:
        z, losses = self.inference.infer(batch, masks, noise[0])
        s, a = batch.transitions.observations, batch.transitions.actions
        losses["actor_loss"] = sum(self.surprise(s[i, b], a[i, b], z[i]) for i in range(K) for b in range(B)) / (K * B)
        descend(sum(losses.values()), self.adam, self.inference.adam)
        return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("relabelled", [False, True], ids=["alone", "relabelled, with a triplet"])
def test_update_maximises_the_likelihood_of_all_tasks_actions(make, batch, noise, masks, relabelled) -> None:
    scripted = Scripted(K, C) if relabelled else None
    more = {"relabeller": scripted, "hooks": {"triplet": RelabelledTriplet()}} if relabelled else {}
    model = make(MultiTaskBC, **SETTINGS, **more)
    plain = PlainBC(model, PlainInference(model, scripted, 0.3))
    for _ in range(4):
        data = batch(K, B, C)
        noise.clear()
        losses = model.update(data)
        losses.pop("kept_fraction", None)
        drawn = list(noise)
        assert [x.shape for x in drawn] == [(K, Z)]
        expected = plain.update(data, masks, drawn)
        assert {name: x.item() for name, x in losses.items()} == pytest.approx(expected, rel=1e-8)
    assert (data.transitions.actions.abs() == 1).any(), "the edge was tried"
    assert_same_weights(model.encoder.mlp, plain.inference.net)
    assert_same_weights(model.actor.mlp, plain.actor)


def test_policy_acts_with_the_mean_given_z(make) -> None:
    model = make(MultiTaskBC, **SETTINGS)
    policy, s, z = model.policy(), torch.randn(K, B, 4), torch.randn(K, B, Z)
    assert policy.noise_dim == 0
    torch.testing.assert_close(policy.act(s, z, torch.randn(K, B, 0)), torch.tanh(model.actor(s, z)[0]))
