"""Polyak averaging, and a step that descends its own parameters only."""

import pytest
import torch
from torch import nn

from mbml_lightning.algorithms import BCQ
from mbml_lightning.training.algorithm import move_towards

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_moves_the_target_and_not_the_online_network(rate: float) -> None:
    online, target = nn.Linear(3, 2), nn.Linear(3, 2).requires_grad_(False)
    before = [[p.clone().detach() for p in net.parameters()] for net in (online, target)]
    move_towards(target, online, rate)
    for p, old_online, new, old in zip(online.parameters(), before[0], target.parameters(), before[1], strict=True):
        assert torch.equal(p, old_online)
        torch.testing.assert_close(new, (1 - rate) * old + rate * p)
    if rate == 1:
        assert all(torch.equal(p, q) for p, q in zip(online.parameters(), target.parameters(), strict=True))
        assert all(p.data_ptr() != q.data_ptr() for p, q in zip(online.parameters(), target.parameters(), strict=True))


def test_a_step_leaves_other_parameters_and_their_gradients_alone(make) -> None:
    bcq = make(BCQ, num_tasks=2, hidden=(4,), vae_hidden=(4,))
    s, a = torch.randn(2, 3, 4), torch.randn(2, 3, 2)
    loss = bcq.networks.q(s, bcq.networks.perturbation(s, a)).sum()
    before = {name: p.detach().clone() for name, p in bcq.named_parameters()}
    bcq.step(bcq.optimizer_list()[2], loss)
    for name, p in bcq.named_parameters():
        mine = name.startswith("networks.perturbation.")
        assert torch.equal(p, before[name]) != mine, name
        assert (p.grad is not None) == mine, name


def test_gradients_do_not_add_up_over_steps(make) -> None:
    bcq = make(BCQ, num_tasks=2, hidden=(4,), vae_hidden=(4,))
    s, a = torch.randn(2, 3, 4), torch.randn(2, 3, 2)
    optimizer = torch.optim.Adam(bcq.networks.q.parameters(), 0.0)
    gradients = []
    for _ in range(2):
        bcq.step(optimizer, bcq.networks.q(s, a).sum())
        gradients.append([p.grad.clone() for p in bcq.networks.q.parameters()])
    assert all(torch.equal(first, second) for first, second in zip(*gradients, strict=True))
