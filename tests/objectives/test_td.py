"""Targets and errors of temporal differences against loops, one transition after the other."""

import pytest
import torch

from mbml_lightning.objectives.td import bellman_target, squared_error

E, K, B = 2, 3, 5


def test_nothing_follows_a_termination_in_the_bellman_target() -> None:
    rewards, next_values = torch.randn(2, K, B)
    terminations = (torch.rand(K, B) < 0.4).double()
    assert 0 < terminations.sum() < K * B
    target = bellman_target(rewards, terminations, next_values, 0.9)
    for k in range(K):
        for t in range(B):
            follows = 0.0 if terminations[k, t] else 0.9 * next_values[k, t].item()
            assert target[k, t].item() == pytest.approx(rewards[k, t].item() + follows)


def test_squared_error_sums_critics_and_tasks_and_averages_transitions() -> None:
    q, target = torch.randn(E, K, B), torch.randn(K, B)
    expected = 0.0
    for critic in range(E):
        for k in range(K):
            expected += sum((q[critic, k, t].item() - target[k, t].item()) ** 2 for t in range(B)) / B
    assert squared_error(q, target).item() == pytest.approx(expected)
