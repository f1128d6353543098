"""The triplet of the hardest pairs against Eq. 11 and the official code, written as loops over contexts."""

import itertools

import pytest
import torch
from references import at, divergence, gaussian
from steps import context_step

from mbml_lightning.objectives.hard_mining import HardMiningTriplet
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.types import Gaussian

K, N, Z, MARGIN = 4, 3, 2, 1.5


def step(sets: Gaussian | None) -> ContextStep:
    own = gaussian(K, 5, Z)
    return context_step(own, sets=sets)


def kl(sets: Gaussian, i: int, n: int, j: int, m: int) -> float:
    return divergence(at(sets, i, n), at(sets, j, m)).item()


def paper(sets: Gaussian) -> float:
    """Eq. 11: one farthest and one nearest pair a task, mean over tasks."""
    terms = []
    for i in range(K):
        positive = max(kl(sets, i, n, i, m) for n in range(N) for m in range(N))
        negative = min(kl(sets, i, n, j, m) for n in range(N) for j in range(K) if j != i for m in range(N))
        terms.append(max(0.0, positive - negative + MARGIN))
    return sum(terms) / K


def official(sets: Gaussian) -> float:
    """Each context is an anchor with its own farthest and nearest ones; sum over anchors."""
    total = 0.0
    for i, n in itertools.product(range(K), range(N)):
        positive = max(kl(sets, i, n, i, m) for m in range(N))
        negative = min(kl(sets, i, n, j, m) for j in range(K) if j != i for m in range(N))
        total += max(0.0, positive - negative + MARGIN)
    return total


@pytest.mark.parametrize("draw", range(5))
def test_every_normalisation_is_that_of_its_loops(draw):
    torch.manual_seed(draw)
    sets = gaussian(K, N, Z, scale=0.3)
    expected = {("task", "mean"): paper(sets), ("anchor", "sum"): official(sets)}
    expected |= {("task", "sum"): K * paper(sets), ("anchor", "mean"): official(sets) / (K * N)}
    for (mining, reduction), value in expected.items():
        loss = HardMiningTriplet(MARGIN, 0.7, mining, reduction)(step(sets))
        assert loss.item() == pytest.approx(0.7 * value, rel=1e-10)


def test_tasks_that_are_far_apart_cost_nothing_and_mixed_ones_pull_apart():
    mean = torch.arange(float(K))[:, None, None].expand(K, N, Z) * 10
    far = Gaussian(mean, torch.full((K, N, Z), 0.5))
    assert HardMiningTriplet()(step(far)).item() == 0
    mixed = Gaussian((0.1 * mean).clone().requires_grad_(), torch.ones(K, N, Z))
    HardMiningTriplet()(step(mixed)).backward()
    downhill = -mixed.mean.grad.sum((1, 2))
    assert downhill[0] < 0 < downhill[-1], "the outer tasks move outwards"


def test_one_context_a_task_is_refused():
    with pytest.raises(ValueError, match="context_sets"):
        HardMiningTriplet()(step(None))
