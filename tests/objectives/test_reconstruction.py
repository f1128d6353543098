"""Reconstruction of rewards and state changes: its losses by loops, and that z is needed for them."""

import math
from functools import cache

import pytest
import torch
from steps import context_step, transitions
from torch import Tensor
from torch.distributions import Normal

from mbml_lightning.nets.task_encoder import TaskEncoder, product, sample
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.objectives.reconstruction import LOWEST_LOG_VARIANCE, Reconstruction, gaussian_nll, predicted_nll
from mbml_lightning.types import Gaussian, Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

K, C, S, A, Z = 3, 4, 3, 2, 2


def reconstruction(**arguments) -> Reconstruction:
    hook = Reconstruction(**{"hidden": (8,)} | arguments)
    hook.build(S, A, Z, K)
    for p in hook.parameters():
        torch.nn.init.normal_(p)
    return hook


def step(rows: Transitions, z: Tensor) -> ContextStep:
    own = Gaussian(torch.randn(*rows.rewards.shape, Z), torch.ones(*rows.rewards.shape, Z))
    return context_step(own, contexts=rows, z=z)


def by_loops(hook: Reconstruction, rows: Transitions, z: Tensor) -> dict[str, float]:
    """Row by row, dimension by dimension."""
    errors = {"reward": [], "next_state": []}
    for i in range(K):
        for t in range(C):
            s, a, r, next_s, _ = (x[i, t] for x in rows)
            inputs = torch.cat([s, a, z[i]])
            for name, target in (("reward", [r]), ("next_state", [next_s[d] - s[d] for d in range(S)])):
                predicted = hook.decoders[name](inputs).tolist()
                for d, true in enumerate(float(x) for x in target):
                    if hook.error == "squared":
                        errors[name].append((predicted[d] - true) ** 2)
                        continue
                    spread = predicted[len(target) + d]
                    variance = math.exp(LOWEST_LOG_VARIANCE + math.log1p(math.exp(spread - LOWEST_LOG_VARIANCE)))
                    scaled = (true - predicted[d]) ** 2 / (2 * variance)
                    errors[name].append(scaled + math.log(math.sqrt(2 * math.pi * variance)))
    return {name: sum(all_) / len(all_) for name, all_ in errors.items()}


@pytest.mark.parametrize("error", ["nll", "squared"])
def test_losses_are_those_of_the_loops(error) -> None:
    hook = reconstruction(error=error, reward_weight=0.3, next_state_weight=2.0)
    rows, z = transitions(K, C, s=S, a=A), torch.randn(K, Z)
    expected, losses = by_loops(hook, rows, z), hook(step(rows, z))
    assert losses.keys() == {"reward", "next_state"}
    assert losses["reward"].item() == pytest.approx(0.3 * expected["reward"])
    assert losses["next_state"].item() == pytest.approx(2 * expected["next_state"])


def test_nll_is_minus_the_log_density_of_the_normal_distribution() -> None:
    mean, target = torch.randn(2, K, C, S)
    for log_variance in (-2.0, 0.0, 1.5):
        closed = -Normal(mean, math.exp(log_variance / 2)).log_prob(target).mean()
        torch.testing.assert_close(gaussian_nll(mean, torch.full_like(mean, log_variance), target), closed)


def test_nll_is_least_where_the_variance_is_that_of_the_errors() -> None:
    mean, target = torch.zeros(1000, 1), 0.5 * torch.randn(1000, 1)
    spread = torch.tensor(2 * math.log(0.5), requires_grad=True)
    gaussian_nll(mean, spread.expand(1000, 1), target).backward()
    assert abs(spread.grad.item()) < 0.05
    for log_variance in (-3.0, 1.0):
        there = gaussian_nll(mean, torch.full_like(mean, log_variance), target)
        assert there > gaussian_nll(mean, spread.expand(1000, 1), target)


def test_predictions_without_error_keep_a_finite_likelihood_and_gradient() -> None:
    prediction = torch.tensor([[1.0, -1000.0]], requires_grad=True)
    nll = predicted_nll(prediction, torch.ones(1, 1))
    assert nll.item() == pytest.approx(0.5 * (LOWEST_LOG_VARIANCE + math.log(2 * math.pi)))
    nll.backward()
    assert prediction.grad.isfinite().all()


@pytest.mark.parametrize("left_out", ["reward", "next_state"])
def test_a_weight_of_zero_makes_no_decoder(left_out) -> None:
    hook = reconstruction(**{f"{left_out}_weight": 0.0})
    kept = {"reward", "next_state"} - {left_out}
    assert hook.decoders.keys() == kept
    assert hook(step(transitions(K, C, s=S, a=A), torch.randn(K, Z))).keys() == kept


def test_only_own_rows_are_decoded() -> None:
    hook, rows, z = reconstruction(), transitions(K, C, s=S, a=A), torch.randn(K, Z)
    plain, factors = step(rows, z), Gaussian(torch.randn(K, K, C, Z), torch.ones(K, K, C, Z))
    kept, others = torch.ones(K, K, C, dtype=torch.bool), transitions(K, K, C, s=S, a=A)
    relabelled = context_step(plain.own, contexts=rows, z=z, relabelled_rows=others, relabelled=factors, kept=kept)
    assert hook(relabelled) == hook(plain)


# That z is needed -----------------------------------------------------------------------------------------------

NOISE = 0.2


def two_tasks(rows: int = 64) -> Transitions:
    """Equal (s, a) of both tasks; r = x and s' = s + a in one, r = -x and s' = s - a in the other, and noise."""
    t, sign = transitions(1, rows, s=S, a=A).map(lambda x: x.expand(2, *x.shape[1:])), torch.tensor([[1.0], [-1.0]])
    s = t.observations.abs()
    rewards = sign * s[..., 0] + NOISE * torch.randn(2, rows)
    return t._replace(
        observations=s, rewards=rewards, next_observations=s + sign.unsqueeze(-1) * t.actions.mean(-1, keepdim=True)
    )


def inferred(encoder: TaskEncoder, rows: Transitions) -> ContextStep:
    own = encoder(rows)
    return context_step(own, contexts=rows, z=sample(product(own)))


@cache
def trained(error: str) -> tuple[TaskEncoder, Reconstruction]:
    """An encoder and decoders that learned together, the same for every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder, hook = TaskEncoder(S, A, Z, (32,)), Reconstruction(error, (32, 32))
        hook.build(S, A, Z, 2)
        optimiser = torch.optim.Adam([*encoder.parameters(), *hook.parameters()], 1e-2, fused=True)
        for _ in range(300):
            optimiser.zero_grad()
            sum(hook(inferred(encoder, two_tasks())).values()).backward()
            optimiser.step()
    return encoder, hook


def test_the_optimum_separates_the_tasks_and_reaches_the_noise_floor() -> None:
    encoder, hook = trained("squared")
    fresh = two_tasks(1000)
    found = inferred(encoder, fresh)
    assert NOISE**2 * 0.8 < hook(found)["reward"].item() < NOISE**2 * 1.5
    assert hook(found)["next_state"].item() < 0.01
    distance = (found.posterior.mean[0] - found.posterior.mean[1]).norm()
    assert distance > 10 * found.posterior.variance.sqrt().max()


def test_the_optimum_of_the_likelihood_reaches_the_entropy_of_the_noise() -> None:
    encoder, hook = trained("nll")
    entropy = 0.5 * math.log(2 * math.pi * math.e * NOISE**2)
    assert entropy - 0.1 < hook(inferred(encoder, two_tasks(1000)))["reward"].item() < entropy + 0.3


def test_a_constant_z_cannot_go_below_the_variance_of_rewards() -> None:
    """For every decoder: tasks average to x^2 + prediction^2, so that nothing is better than x^2."""
    rows, hook = two_tasks(1000), reconstruction(error="squared")
    x = rows.observations[..., 0]
    rows = rows._replace(rewards=torch.tensor([[1.0], [-1.0]]) * x)
    optimiser = torch.optim.Adam(hook.parameters(), 1e-2, fused=True)
    for _ in range(100):
        optimiser.zero_grad()
        loss = hook(step(rows, torch.ones(2, Z)))["reward"]
        loss.backward()
        optimiser.step()
        assert loss.item() >= x.square().mean().item()
    assert loss.item() < 1.2 * x.square().mean().item()


@pytest.mark.parametrize("error", ["squared", "nll"])
def test_z_of_the_other_task_costs_more(error) -> None:
    encoder, hook = trained(error)
    rows = two_tasks(1000)
    found = inferred(encoder, rows)
    own, other = hook(found), hook(step(rows, found.z.flip(0)))
    for name in ("reward", "next_state"):
        assert other[name] > own[name] + 0.5
