"""K independent learners on several ranks: what each keeps, and that their parts make up the whole again."""

import copy

import pytest
import torch

from mbml_lightning.algorithms import BCQ, SAC
from mbml_lightning.training.sharding import cut, join, keep_tasks, optimizer_axes, task_axes
from mbml_lightning.types import TaskBatch, Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

K = 5
SETTINGS = {
    SAC: {"actor_hidden": (4,), "critic_hidden": (4,)},
    BCQ: {"hidden": (4,), "vae_hidden": (4,)},
}


def state_of(learners) -> dict:
    states = [copy.deepcopy(optimizer.state_dict()) for optimizer in learners.optimizer_list()]
    return {"state_dict": copy.deepcopy(learners.state_dict()), "optimizer_states": states}


def tensors(state: dict) -> dict[tuple, torch.Tensor]:
    """Every weight and every moment by its place."""
    found = {(name,): x for name, x in state["state_dict"].items()}
    for i, optimizer in enumerate(state["optimizer_states"]):
        found |= {(i, j, name): x for j, moments in optimizer["state"].items() for name, x in moments.items()}
    return found


def assert_equal_states(one: dict, other: dict) -> None:
    one, other = tensors(one), tensors(other)
    assert one.keys() == other.keys()
    for place, x in one.items():
        assert torch.equal(x, other[place]), place


@pytest.fixture(params=SETTINGS)
def trained(request, make):
    """A method after an update, so that its optimisers have moments, each number of which is another one."""
    learners = make(request.param, num_tasks=K, **SETTINGS[request.param])
    s, a, next_s = (torch.randn(K, 3, n) for n in (4, 2, 4))
    learners.update(TaskBatch(Transitions(s, a.tanh(), torch.randn(K, 3), next_s, torch.zeros(K, 3))))
    return learners


@pytest.mark.parametrize("parts", [[range(5)], [range(2), range(2, 5)], [range(i, i + 1) for i in range(5)]])
def test_parts_that_are_cut_join_to_the_whole(trained, parts):
    whole, axes = state_of(trained), task_axes(trained)
    optimizers = optimizer_axes(axes, trained, trained.optimizer_list())
    cuts = [cut(whole, axes, optimizers, tasks) for tasks in parts]
    assert_equal_states(join(cuts, axes, optimizers), whole)
    if len(parts) > 1:
        swapped = join(cuts[::-1], axes, optimizers)
        assert any(not torch.equal(x, tensors(whole)[place]) for place, x in tensors(swapped).items())


def test_a_part_holds_the_numbers_of_its_tasks(trained):
    whole, axes = state_of(trained), task_axes(trained)
    part = cut(whole, axes, optimizer_axes(axes, trained, trained.optimizer_list()), range(1, 3))
    for place, x in tensors(part).items():
        every = tensors(whole)[place]
        if every.ndim == 0:  # how many steps an optimiser has made
            assert x == every
            continue
        (axis,) = (axis for axis in range(x.ndim) if x.shape[axis] != every.shape[axis])
        assert every.shape[axis] == K and x.shape[axis] == 2
        for here, there in enumerate((1, 2)):
            assert torch.equal(x.select(axis, here), every.select(axis, there)), place


def test_learners_that_keep_some_tasks_compute_what_the_whole_does_for_them(trained):
    nets = getattr(trained, "networks", trained)
    q, s, a = copy.deepcopy(nets.q_target), torch.randn(K, 3, 4), torch.randn(K, 3, 2)
    keep_tasks(trained, range(1, 4))
    assert torch.equal(nets.q_target(s[1:4], a[1:4]), q(s, a)[:, 1:4])
    assert nets.q.mlp.members == (2, 3)
