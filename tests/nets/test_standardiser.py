"""Standardised states: their statistics, when these are taken, and the layer into which they are folded."""

import pytest
import torch
from torch import Tensor

from mbml_lightning.nets.mlp import MLP
from mbml_lightning.nets.standardiser import ENOUGH, SMALLEST_STD, Standardiser, fold

K, N, S = 3, 40, 4


def states(count: int = N) -> Tensor:
    """States of means and deviations that differ between tasks and between dimensions."""
    scale = torch.arange(1.0, K * S + 1).view(K, 1, S)
    return scale * torch.randn(K, count, S) + 10 * scale


def following(inputs: Standardiser, s: Tensor) -> Standardiser:
    inputs.follow(s)
    return inputs


def test_states_pass_as_they_are_until_some_were_seen() -> None:
    s = states()
    assert torch.equal(Standardiser(S)(s), s)
    assert torch.equal(following(Standardiser(S, (K,)), s[:, :0])(s), s)


def test_each_task_of_a_stack_is_standardised_by_its_own_states() -> None:
    s = states()
    inputs = following(Standardiser(S, (K,)), s)
    for k in range(K):
        for i in range(S):
            column = s[k, :, i].double()
            expected = (column - column.mean()) / ((column - column.mean()) ** 2).mean().sqrt()
            torch.testing.assert_close(inputs(s)[k, :, i].double(), expected, rtol=1e-4, atol=1e-5)


def test_common_statistics_are_of_all_tasks_states_together() -> None:
    s = states()
    inputs = following(Standardiser(S), s)
    flat = s.flatten(0, 1).double()
    expected = (flat - flat.mean(0)) / flat.std(0, correction=0)
    torch.testing.assert_close(inputs(s).flatten(0, 1).double(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(inputs(s.flatten(0, 1)), inputs(s).flatten(0, 1))


def test_a_constant_dimension_is_not_blown_up() -> None:
    s = torch.full((1, N, 1), 7.0)
    inputs = following(Standardiser(1), s)
    assert inputs(s).abs().max() == 0
    assert inputs(s + 1).max() == pytest.approx(1 / SMALLEST_STD)


@pytest.mark.parametrize("members", [(), (K,)])
def test_statistics_are_taken_anew_when_rows_grew_by_half_and_are_kept_once_there_are_enough(members) -> None:
    inputs = Standardiser(S, members)
    taken = []
    for count in (10, 14, 15, 22, 23, ENOUGH, 2 * ENOUGH):
        before = inputs.mean.clone()
        inputs.follow(torch.randn(K, 1, S).expand(K, count, S))
        taken.append(not torch.equal(inputs.mean, before))
    assert taken == [True, False, True, False, True, True, False]
    assert (inputs.seen == ENOUGH).all()


def test_a_folded_network_gives_for_states_what_it_gave_for_standardised_ones() -> None:
    mlp, s = MLP([S, 8, 2], (K,)), states()
    inputs = following(Standardiser(S, (K,)), s)
    expected = mlp(inputs(s))
    assert not torch.allclose(mlp(s), expected, atol=1e-3)
    fold(inputs.mean, inputs.std, mlp)
    torch.testing.assert_close(mlp(s), expected, rtol=1e-4, atol=1e-5)
