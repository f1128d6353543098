"""K stacked SACs against K plain ones, written out here with torch.distributions."""

import copy

import pytest
import torch
import torch.nn.functional as F
from references import assert_same_weights, descend, move_targets, separate
from torch import Tensor
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform
from torch.optim import Adam

from mbml_lightning.algorithms import SAC
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.data.rows import Rows

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, S, A = 3, 6, 4, 2
SETTINGS = {
    "num_tasks": K,
    "actor_hidden": (8, 7),
    "critic_hidden": (9, 6),
    "lr": 1e-2,
    "discount": 0.9,
    "tau": 0.1,
}


class PlainSAC:
    """One task; the temperature of the whole update is that from before it."""

    def __init__(self, sac: SAC, k: int) -> None:
        self.q = [separate(sac.q.mlp, critic, k) for critic in range(2)]
        self.q_target = [separate(sac.q_target.mlp, critic, k) for critic in range(2)]
        self.actor = separate(sac.actor.mlp, k)
        self.log_alpha = sac.log_alpha.data[k].clone().requires_grad_()
        self.optimizers = [
            Adam([*self.q[0].parameters(), *self.q[1].parameters()], 1e-2),
            Adam(self.actor.parameters(), 1e-2),
            Adam([self.log_alpha], 1e-2),
        ]

    def sample(self, s: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_std = self.actor(s).chunk(2, 1)
        std = log_std.clamp(-20, 2).exp()
        squashed = TransformedDistribution(Normal(mean, std), TanhTransform(cache_size=1))
        a = squashed.transforms[0](mean + std * noise)
        return a, Independent(squashed, 1).log_prob(a)

    def update(self, s, a, r, next_s, end, noise: list[Tensor]) -> dict[str, float]:
        alpha = self.log_alpha.exp().item()
        with torch.no_grad():
            next_a, next_log_prob = self.sample(next_s, noise[0])
            q1, q2 = (net(torch.cat([next_s, next_a], 1))[:, 0] for net in self.q_target)
            y = r + 0.9 * (1 - end) * (torch.minimum(q1, q2) - alpha * next_log_prob)
        q1, q2 = (net(torch.cat([s, a], 1))[:, 0] for net in self.q)
        losses = {"q_loss": F.mse_loss(q1, y) + F.mse_loss(q2, y)}
        descend(losses["q_loss"], self.optimizers[0])
        new_a, log_prob = self.sample(s, noise[1])
        q1, q2 = (net(torch.cat([s, new_a], 1))[:, 0] for net in self.q)
        losses["actor_loss"] = (alpha * log_prob - torch.minimum(q1, q2)).mean()
        descend(losses["actor_loss"], self.optimizers[1])
        entropy = -log_prob.detach().mean()
        losses["temperature_loss"] = (self.log_alpha * (entropy - -A)).sum()
        descend(losses["temperature_loss"], self.optimizers[2])
        move_targets(0.1, *zip(self.q, self.q_target, strict=True))
        return {name: loss.item() for name, loss in losses.items()}


def test_update_equals_separate_updates(make, batch, noise) -> None:
    sac = make(SAC, **SETTINGS)
    sac.log_alpha.data = torch.randn(K, 1)
    plain = [PlainSAC(sac, k) for k in range(K)]
    for _ in range(4):
        data = batch(K, B)
        noise.clear()
        losses = sac.update(data)
        drawn = list(noise)
        assert [x.shape for x in drawn] == [(K, B, A)] * 2
        expected = [plain[k].update(*(x[k] for x in data.transitions), [x[k] for x in drawn]) for k in range(K)]
        for name, value in losses.items():
            assert value.item() == pytest.approx(sum(e[name] for e in expected) / K, rel=1e-7), name
    for k in range(K):
        for critic in range(2):
            assert_same_weights(sac.q.mlp, plain[k].q[critic], critic, k)
            assert_same_weights(sac.q_target.mlp, plain[k].q_target[critic], critic, k)
        assert_same_weights(sac.actor.mlp, plain[k].actor, k)
        torch.testing.assert_close(sac.log_alpha[k], plain[k].log_alpha)


def test_actor_and_temperature_learn_every_third_time(make, batch) -> None:
    sac = make(SAC, **SETTINGS, actor_every=3)
    learned = []
    for _ in range(7):
        before = copy.deepcopy([*sac.actor.parameters(), sac.log_alpha])
        losses = sac.update(batch(K, B))
        moved = {
            not torch.equal(old, new) for old, new in zip(before, [*sac.actor.parameters(), sac.log_alpha], strict=True)
        }
        assert len(moved) == 1 and moved == {"actor_loss" in losses} == {"temperature_loss" in losses}
        learned += moved
    assert learned == [True, False, False, True, False, False, True]


def test_temperature_begins_where_it_is_told() -> None:
    torch.testing.assert_close(
        SAC("UmazeGoalM", **SETTINGS, initial_temperature=0.05).log_alpha.exp(), torch.full((K, 1), 0.05)
    )


@pytest.mark.parametrize(("bias", "falls"), [(0.0, True), (-8.0, False)], ids=["much entropy", "little entropy"])
def test_temperature_falls_when_the_entropy_exceeds_its_target(make, batch, bias: float, falls: bool) -> None:
    """A standard deviation of 1, or of e^-8, in both dimensions; the target entropy is -2."""
    sac = make(SAC, **SETTINGS)
    sac.actor.mlp.weights[-1].data.zero_()
    sac.actor.mlp.biases[-1].data.zero_()[..., A:] = bias
    sac.update(batch(K, B))
    assert ((sac.log_alpha < 0) == falls).all()


def test_targets_begin_as_copies_or_independent() -> None:
    copied, official = SAC("UmazeGoalM", **SETTINGS), SAC("UmazeGoalM", **SETTINGS, copy_targets=False)
    for p, p_target in zip(copied.q.parameters(), copied.q_target.parameters(), strict=True):
        assert torch.equal(p, p_target)
        assert p.data_ptr() != p_target.data_ptr()
    assert not torch.equal(official.q.mlp.weights[0], official.q_target.mlp.weights[0])
    assert not any(p.requires_grad for sac in (copied, official) for p in sac.q_target.parameters())
    assert torch.equal(copied.log_alpha, torch.zeros(K, 1))


def test_targets_move_by_tau_and_have_no_gradient(make, batch) -> None:
    sac = make(SAC, **SETTINGS)
    sac.update(batch(K, B))
    before = copy.deepcopy(sac.q_target)
    sac.update(batch(K, B))
    for p, old, new in zip(sac.q.parameters(), before.parameters(), sac.q_target.parameters(), strict=True):
        torch.testing.assert_close(new, 0.9 * old + 0.1 * p)
        assert new.grad is None


class Collector(OnlineDataModule):
    """A data module that notes with which random numbers it is to collect."""

    def __init__(self, count: int = 0) -> None:
        self.rows, self.seeds, self.copies = Rows(torch.zeros(K, 60, 2 * S + A + 2), S, A, count), [], 1

    def collect(self, policy, steps: int, z: None = None) -> list[float]:
        self.seeds.append(torch.initial_seed())
        return []


def test_behaviour_samples_and_evaluation_does_not(make) -> None:
    sac = make(SAC, **SETTINGS)
    s, noise = torch.randn(K, 1, S), torch.randn(K, 1, A)
    mean, log_std = sac.actor(s)
    torch.testing.assert_close(sac.behaviour().act(s, None, noise), torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(sac.policy().act(s, None, noise[..., :0]), torch.tanh(mean))


def test_every_seed_split_and_step_collects_with_random_numbers_of_its_own(make) -> None:
    """Resumed at a step, a run draws what it would have drawn; seed 0 at step 50 is not seed 50 at step 0."""
    drawn = {}
    for seed, split, count in [(0, "train", 0), (0, "train", 50), (50, "train", 0), (0, "test", 0)]:
        sac = make(SAC, **SETTINGS | {"seed": seed, "split": split})
        sac.trainer.datamodule = Collector(count)
        sac.collect(1), torch.manual_seed(3), sac.collect(1)
        first, again = sac.data.seeds
        assert first == again
        drawn[seed, split, count] = first
    assert len({*drawn.values()}) == len(drawn)
