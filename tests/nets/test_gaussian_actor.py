"""SAC's squashed Gaussian against torch.distributions."""

import pytest
import torch
from references import separate, spread
from torch.distributions import Independent, Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from mbml_lightning.nets.gaussian_actor import GaussianActor, squashed_log_prob, squashed_sample

K, B, S, A, Z = 3, 5, 4, 2, 3


def test_log_density_against_the_transformed_distribution() -> None:
    mean, log_std, noise = torch.randn(K, B, A), 0.5 * torch.randn(K, B, A) - 0.5, torch.randn(K, B, A)
    a, log_prob = squashed_sample(mean, log_std, noise)
    reference = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    torch.testing.assert_close(a, torch.tanh(mean + log_std.exp() * noise))
    torch.testing.assert_close(log_prob, Independent(reference, 1).log_prob(a), rtol=1e-8, atol=1e-8)


def test_density_of_one_dimension_integrates_to_one() -> None:
    """Over a grid of noise: the density of a, times da, which here is (1 - a^2) std d(noise)."""
    noise = torch.linspace(-8, 8, 20_001).unsqueeze(-1)
    mean, log_std = torch.full_like(noise, 0.3), torch.full_like(noise, -0.2)
    a, log_prob = squashed_sample(mean, log_std, noise)
    assert (torch.trapezoid(log_prob.exp(), a.squeeze(-1)) - 1).abs() < 1e-5


def test_finite_where_tanh_rounds_to_one() -> None:
    mean = torch.full((1, 1), 40.0, dtype=torch.float32, requires_grad=True)
    a, log_prob = squashed_sample(mean, torch.zeros(1, 1, dtype=torch.float32), torch.zeros(1, 1, dtype=torch.float32))
    log_prob.sum().backward()
    assert a.item() == 1.0
    assert log_prob.isfinite().all()
    assert mean.grad.item() == 2.0, "of 2 u - 2 log 2 + constant"


def test_log_density_of_given_actions_against_the_transformed_distribution() -> None:
    mean, log_std, a = torch.randn(K, B, A), 0.5 * torch.randn(K, B, A) - 0.5, 1.9 * torch.rand(K, B, A) - 0.95
    reference = TransformedDistribution(Normal(mean, log_std.exp()), TanhTransform())
    expected = Independent(reference, 1).log_prob(a)
    torch.testing.assert_close(squashed_log_prob(mean, log_std, a), expected, rtol=1e-8, atol=1e-8)


def test_log_density_of_a_sample_is_the_one_it_came_with() -> None:
    mean, log_std = 0.3 * torch.randn(K, B, A), 0.3 * torch.randn(K, B, A) - 1
    a, log_prob = squashed_sample(mean, log_std, torch.randn(K, B, A))
    assert a.abs().max() < 0.999
    torch.testing.assert_close(squashed_log_prob(mean, log_std, a), log_prob, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("edge", [-1.0, 1.0])
def test_actions_at_the_edge_count_as_just_inside(edge: float) -> None:
    """In the single precision of training: finite, and the mean is drawn towards that edge."""
    mean, log_std = (torch.zeros(1, 1, dtype=torch.float32, requires_grad=True) for _ in range(2))
    log_prob = squashed_log_prob(mean, log_std, torch.full((1, 1), edge, dtype=torch.float32))
    log_prob.sum().backward()
    u = torch.atanh(torch.tensor(0.999)).item()
    inside = TransformedDistribution(Normal(0.0, 1.0), TanhTransform()).log_prob(torch.tensor(0.999 * edge))
    assert log_prob.item() == pytest.approx(inside.item(), rel=1e-4)
    assert mean.grad.item() == pytest.approx(edge * u, rel=1e-4)
    assert log_std.grad.item() == pytest.approx(u**2 - 1, rel=1e-4)


def test_actor_of_all_tasks_reads_s_and_z() -> None:
    actor, s, z = spread(GaussianActor(S, A, [8], Z), 0.5), torch.randn(B, S), torch.randn(B, Z)
    y = separate(actor.mlp)(torch.cat([s, z], -1))
    mean, log_std = actor(s, z)
    torch.testing.assert_close(mean, y[:, :A])
    torch.testing.assert_close(log_std, y[:, A:].clamp(-20, 2))


def test_actor_gives_mean_and_clamped_log_std_of_every_task() -> None:
    actor, s = spread(GaussianActor(S, A, [8], members=(K,))), 10 * torch.randn(K, B, S)
    mean, log_std = actor(s)
    raw = []
    for k in range(K):
        y = separate(actor.mlp, k)(s[k])
        raw.append(y[:, A:])
        torch.testing.assert_close(mean[k], y[:, :A])
        torch.testing.assert_close(log_std[k], y[:, A:].clamp(-20, 2))
    assert torch.stack(raw).min() < -20, "the clamp was tried"
    assert torch.stack(raw).max() > 2, "the clamp was tried"
