"""The losses of SAC against loops, one task after the other."""

import math

import pytest
import torch

from mbml_lightning.objectives.sac import actor_loss, soft_target, temperature_loss

K, B = 3, 5


def test_soft_target_takes_the_smaller_critic_and_adds_entropy_unless_the_task_ended() -> None:
    rewards, log_prob = torch.randn(2, K, B)
    terminations = (torch.rand(K, B) < 0.4).double()
    q, alpha = torch.randn(2, K, B), torch.rand(K, 1) + 0.1
    assert 0 < terminations.sum() < K * B
    target = soft_target(rewards, terminations, q, log_prob, alpha, 0.9)
    for k in range(K):
        for t in range(B):
            expected = rewards[k, t].item()
            if not terminations[k, t]:
                soft = min(q[0, k, t].item(), q[1, k, t].item()) - alpha[k, 0].item() * log_prob[k, t].item()
                expected += 0.9 * soft
            assert target[k, t].item() == pytest.approx(expected)


def test_actor_loss_is_minus_value_and_minus_entropy() -> None:
    q, log_prob, alpha = torch.randn(2, K, B), torch.randn(K, B), torch.rand(K, 1) + 0.1
    expected = 0.0
    for k in range(K):
        for t in range(B):
            smaller = min(q[0, k, t].item(), q[1, k, t].item())
            expected += (alpha[k, 0].item() * log_prob[k, t].item() - smaller) / B
    assert actor_loss(q, log_prob, alpha).item() == pytest.approx(expected)


def test_temperature_loss_by_loops() -> None:
    log_alpha, log_prob = torch.randn(K, 1), torch.randn(K, B)
    expected = 0.0
    for k in range(K):
        expected -= sum(log_alpha[k, 0].item() * (log_prob[k, t].item() - 2.0) for t in range(B)) / B
    assert temperature_loss(log_alpha, log_prob, -2.0).item() == pytest.approx(expected)


@pytest.mark.parametrize(("entropy", "falls"), [(1.0, True), (-5.0, False)])
def test_temperature_falls_where_the_entropy_exceeds_its_target(entropy: float, falls: bool) -> None:
    log_alpha = torch.tensor([[math.log(0.2)]], requires_grad=True)
    temperature_loss(log_alpha, torch.full((1, B), -entropy), -2.0).backward()
    assert (log_alpha.grad.item() > 0) is falls
