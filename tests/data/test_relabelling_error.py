"""Errors of relabelled rewards against loops over pairs of tasks, rows and members."""

import itertools

import pytest
import torch

from mbml_lightning.data.relabelling_error import absolute_errors

E, K, C, THRESHOLD = 4, 3, 6, 0.9


def test_errors_are_those_of_the_loops():
    torch.manual_seed(0)
    rewards, truth = torch.randn(E, K, K, C), torch.randn(K, K, C)
    every, trusted, single = [], [], []
    for (i, j), t in itertools.product(itertools.permutations(range(K), 2), range(C)):
        members = [float(rewards[e, i, j, t]) for e in range(E)]
        mean = sum(members) / E
        std = (sum((m - mean) ** 2 for m in members) / (E - 1)) ** 0.5
        every.append(abs(mean - float(truth[i, j, t])))
        single.append(abs(members[0] - float(truth[i, j, t])))
        trusted += [every[-1]] * (std < THRESHOLD)
    expected = {
        "relabelling_error": sum(every) / len(every),
        "relabelling_error_single": sum(single) / len(single),
        "relabelling_error_kept": sum(trusted) / len(trusted),
        "kept_fraction": len(trusted) / len(every),
    }
    assert 0 < len(trusted) < len(every)
    assert absolute_errors(rewards, truth, THRESHOLD) == pytest.approx(expected, rel=1e-5)


def test_where_nothing_is_trusted_there_is_no_error_of_it():
    errors = absolute_errors(torch.randn(E, K, K, C), torch.randn(K, K, C), 0.0)
    assert errors["kept_fraction"] == 0 and "relabelling_error_kept" not in errors
