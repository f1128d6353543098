"""FOCAL's distance metric against its formula, written as loops over contexts."""

import itertools

import pytest
import torch
from steps import context_step

from mbml_lightning.objectives.focal import FOCAL
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.types import Gaussian

K, N, Z = 3, 2, 2


def step(z: torch.Tensor | None) -> ContextStep:
    some = Gaussian(torch.randn(K, 4, Z), torch.ones(K, 4, Z))
    sets = None if z is None else Gaussian(z, torch.ones_like(z))
    return context_step(some, sets=sets)


def by_loops(z: torch.Tensor, beta: float, power: float, epsilon: float) -> float:
    attract, repel = [], []
    for (i, n), (j, m) in itertools.permutations(itertools.product(range(K), range(N)), 2):
        distance = sum((float(a) - float(b)) ** 2 for a, b in zip(z[i, n], z[j, m], strict=True)) ** 0.5
        if i == j:
            attract.append(distance**2)
        else:
            repel.append(beta / (distance**power + epsilon))
    return sum(attract) / len(attract) + sum(repel) / len(repel)


@pytest.mark.parametrize(("beta", "power", "epsilon"), [(1.0, 2.0, 0.1), (0.3, 1.0, 0.5)])
def test_loss_is_that_of_the_loops(beta, power, epsilon):
    z = torch.randn(K, N, Z)
    loss = FOCAL(2.0, beta, power, epsilon)(step(z))
    assert loss.item() == pytest.approx(2 * by_loops(z, beta, power, epsilon), rel=1e-9)


def test_descent_brings_contexts_of_a_task_together_and_tasks_apart():
    z = torch.tensor([[[0.0], [0.4]], [[1.0], [1.4]]], requires_grad=True)
    FOCAL()(step(z)).backward()
    within, between = z.grad[0, 1] - z.grad[0, 0], z.grad[1].sum() - z.grad[0].sum()
    assert within.item() > 0, "the distance within a task falls"
    assert between.item() < 0, "the distance between tasks grows"


def test_equal_embeddings_have_a_finite_gradient():
    z = torch.zeros(K, N, Z, requires_grad=True)
    FOCAL()(step(z)).backward()
    assert z.grad.isfinite().all()


def test_one_context_a_task_is_refused():
    with pytest.raises(ValueError, match="context_sets"):
        FOCAL()(step(None))
