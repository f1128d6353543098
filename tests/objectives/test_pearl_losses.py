"""The losses of PEARL's soft actor-critic against loops, one transition after the other."""

import pytest
import torch

from mbml_lightning.objectives.pearl import actor_loss, q_loss, q_target, soft_value

K, B, A = 3, 7, 2


def test_q_target_scales_rewards_and_bootstraps_from_the_value_unless_the_task_ended() -> None:
    rewards, next_v = torch.randn(2, B)
    terminations = torch.tensor([0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    target = q_target(rewards, terminations, next_v, 0.9, 5.0)
    for t in range(B):
        expected = 5 * rewards[t].item() + (0.0 if terminations[t] else 0.9 * next_v[t].item())
        assert target[t].item() == pytest.approx(expected)


def test_q_loss_sums_both_critics_and_averages_transitions_and_tasks() -> None:
    q, target = torch.randn(2, K, B), torch.randn(K, B)
    errors = [(q[e, k, t].item() - target[k, t].item()) ** 2 for e in range(2) for k in range(K) for t in range(B)]
    assert q_loss(q, target).item() == pytest.approx(sum(errors) / (K * B))


def test_soft_value_takes_the_smaller_critic_and_adds_entropy() -> None:
    q, log_prob = torch.randn(2, B), torch.randn(B)
    value = soft_value(q, log_prob)
    for t in range(B):
        assert value[t].item() == pytest.approx(min(q[0, t].item(), q[1, t].item()) - log_prob[t].item())


def test_actor_loss_is_minus_value_minus_entropy_and_a_pull_to_zero() -> None:
    q, log_prob, (mean, log_std) = torch.randn(2, B), torch.randn(B), torch.randn(2, B, A)
    expected = 0.0
    for t in range(B):
        expected += (log_prob[t].item() - min(q[0, t].item(), q[1, t].item())) / B
        for d in range(A):
            expected += 0.3 * (mean[t, d].item() ** 2 + log_std[t, d].item() ** 2) / (B * A)
    assert actor_loss(q, log_prob, mean, log_std, 0.3).item() == pytest.approx(expected)
