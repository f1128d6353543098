"""Eq. 19 to 21 against loops, one task after the other."""

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from mbml_lightning.objectives.bcq import candidate_value, perturbation_loss, td_target, vae_loss

K, B, A, L, M = 3, 5, 2, 4, 6


def test_vae_loss_is_squared_error_and_half_the_mean_divergence() -> None:
    reconstruction, actions = torch.randn(2, K, B, A)
    mean, std = torch.randn(K, B, L), torch.rand(K, B, L) + 0.2
    total = 0.0
    for k in range(K):
        error = sum((reconstruction[k, t, d] - actions[k, t, d]) ** 2 for t in range(B) for d in range(A)) / (B * A)
        prior = Normal(torch.tensor(0.0), torch.tensor(1.0))
        divergence = sum(
            kl_divergence(Normal(mean[k, t, d], std[k, t, d]), prior) for t in range(B) for d in range(L)
        ) / (B * L)
        total += (error + 0.5 * divergence).item()
    assert vae_loss(reconstruction, actions, mean, std).item() == pytest.approx(total)


def test_candidate_value_weights_the_smaller_critic() -> None:
    q = torch.randn(2, K, B)
    value = candidate_value(q, 0.75)
    for k in range(K):
        for t in range(B):
            first, second = q[0, k, t].item(), q[1, k, t].item()
            assert value[k, t].item() == pytest.approx(0.75 * min(first, second) + 0.25 * max(first, second))


def test_td_target_bootstraps_from_the_best_candidate_unless_the_task_ended() -> None:
    rewards, terminations = torch.randn(K, B), (torch.rand(K, B) < 0.4).double()
    values = torch.randn(K, B, M)
    assert 0 < terminations.sum() < K * B
    target = td_target(rewards, terminations, values, 0.9)
    for k in range(K):
        for t in range(B):
            expected = rewards[k, t].item()
            if not terminations[k, t]:
                expected += 0.9 * max(values[k, t].tolist())
            assert target[k, t].item() == pytest.approx(expected)


def test_perturbation_loss_raises_values() -> None:
    q = torch.randn(K, B)
    assert perturbation_loss(q).item() == pytest.approx(-sum(sum(row) / B for row in q.tolist()))
