"""Reward sensitivity against loops over pairs of tasks, and on encoders whose dependence is known."""

import itertools

import pytest
from references import at, divergence, gaussian

from mbml_lightning.evaluation.sensitivity import reward_sensitivity, rewards_followed
from mbml_lightning.types import Gaussian

pytestmark = pytest.mark.usefixtures("double_precision")

K, N, Z = 4, 3, 2


def test_both_measures_are_those_of_the_loops():
    own, swapped = gaussian(K, N, Z), gaussian(K, K, N, Z)
    moved, apart, followed = [], [], []
    for (i, j), n in itertools.product(itertools.permutations(range(K), 2), range(N)):
        moved.append(divergence(at(swapped, i, j, n), at(own, j, n)).item())
        apart.append(divergence(at(own, i, n), at(own, j, n)).item())
        followed.append(divergence(at(swapped, i, j, n), at(own, i, n)).item() < moved[-1])
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
