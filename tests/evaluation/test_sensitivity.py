"""Reward sensitivity against loops over pairs of tasks, and on encoders whose dependence is known."""

import itertools
import math

import pytest
import torch

from mbml_lightning.evaluation.sensitivity import reward_sensitivity, rewards_followed
from mbml_lightning.types import Gaussian

K, N, Z = 4, 3, 2


def gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape), torch.rand(shape) + 0.5)


def kl(p: Gaussian, i: tuple, q: Gaussian, j: tuple) -> float:
    total = 0.0
    for a, v, b, w in zip(p.mean[i], p.variance[i], q.mean[j], q.variance[j], strict=True):
        total += 0.5 * math.log(w / v) + float((v + (a - b) ** 2) / (2 * w)) - 0.5
    return total


def test_both_measures_are_those_of_the_loops():
    torch.manual_seed(0)
    own, swapped = gaussian(K, N, Z), gaussian(K, K, N, Z)
    moved, apart, followed = [], [], []
    for (i, j), n in itertools.product(itertools.permutations(range(K), 2), range(N)):
        moved.append(kl(swapped, (i, j, n), own, (j, n)))
        apart.append(kl(own, (i, n), own, (j, n)))
        followed.append(kl(swapped, (i, j, n), own, (i, n)) < moved[-1])
    assert reward_sensitivity(own, swapped).item() == pytest.approx(sum(moved) / sum(apart), rel=1e-5)
    assert 0 < sum(followed) < len(followed)
    assert rewards_followed(own, swapped).item() == pytest.approx(sum(followed) / len(followed))


@pytest.mark.parametrize(("reads", "expected"), [("states", 0.0), ("rewards", 1.0)])
def test_an_encoder_of_one_kind_alone_has_the_measure_of_its_kind(reads, expected):
    own = gaussian(K, N, Z)
    # [i, j]: rewards of task i, states of task j
    swapped = Gaussian(*(x.unsqueeze(1 if reads == "rewards" else 0).expand(K, K, N, Z) for x in own))
    assert reward_sensitivity(own, swapped).item() == pytest.approx(expected)
    assert rewards_followed(own, swapped).item() == expected
