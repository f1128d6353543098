"""The classifier of tasks: its loss by loops, and what an encoder learns to read from labels alone."""

import math

import pytest
import torch
from steps import context_step, transitions
from torch import Tensor

from mbml_lightning.nets.task_encoder import TaskEncoder, product, sample
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.objectives.task_classifier import TaskClassifier
from mbml_lightning.types import Gaussian, Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

K, C, S, A, Z = 5, 4, 3, 2, 6


def classifier(tasks: int = K, **arguments) -> TaskClassifier:
    hook = TaskClassifier(**{"hidden": (16,)} | arguments)
    hook.build(S, A, Z, tasks)
    return hook


def step(z: Tensor) -> ContextStep:
    """A step whose z is not the mean of its posterior."""
    return context_step(Gaussian(torch.randn(len(z), C, Z), torch.ones(len(z), C, Z)), z=z)


def zero(layer: torch.nn.ParameterList) -> None:
    torch.nn.init.zeros_(layer[-1])


def test_loss_is_minus_the_log_probability_of_the_own_task() -> None:
    hook, z = classifier(weight=0.3), torch.randn(K, Z)
    torch.nn.init.normal_(hook.mlp.weights[-1])
    total = 0.0
    for i in range(K):
        logits = hook.mlp(z[i]).tolist()
        total -= math.log(math.exp(logits[i]) / sum(math.exp(x) for x in logits))
    assert hook(step(z)).item() == pytest.approx(0.3 * total / K)


def test_a_last_layer_of_zeros_costs_log_k_and_descent_costs_less() -> None:
    hook, z = classifier(), torch.randn(K, Z)
    zero(hook.mlp.weights), zero(hook.mlp.biases)
    assert hook(step(z)).item() == pytest.approx(math.log(K))
    optimiser = torch.optim.Adam(hook.parameters(), 1e-2, fused=True)
    for _ in range(100):
        optimiser.zero_grad()
        hook(step(z)).backward()
        optimiser.step()
    assert hook(step(z)).item() < 0.1 * math.log(K)


def test_z_of_other_tasks_costs_more() -> None:
    hook, z = classifier(hidden=()), 5 * torch.eye(K, Z)
    hook.mlp.weights[0].data = torch.eye(Z, K)
    assert hook(step(z)).item() < 0.1 < math.log(K) < hook(step(z.roll(1, 0))).item()


def test_z_descends_towards_its_own_task() -> None:
    hook, z = classifier(hidden=()), torch.zeros(K, Z, requires_grad=True)
    hook.mlp.weights[0].data = torch.eye(Z, K)
    hook(step(z)).backward()
    assert (z.grad[:, :K].diagonal() < 0).all()
    assert (z.grad[:, :K][~torch.eye(K, dtype=torch.bool)] > 0).all()


# What an encoder learns to read ---------------------------------------------------------------------------------


def two_tasks(offset: float, slope: float) -> Transitions:
    """Rewards +-slope times the first action, states around +-offset."""
    rows, sign = transitions(2, 32, s=S, a=A), torch.tensor([[1.0], [-1.0]])
    moved = rows.observations + offset * sign.unsqueeze(-1)
    return rows._replace(observations=moved, next_observations=moved, rewards=slope * sign * rows.actions[..., 0])


def trained(offset: float, slope: float) -> tuple[TaskEncoder, TaskClassifier]:
    encoder, hook = TaskEncoder(S, A, Z, (32, 32)), classifier(tasks=2)
    optimiser = torch.optim.Adam([*encoder.parameters(), *hook.parameters()], 3e-3, fused=True)
    for _ in range(250):
        own = encoder(two_tasks(offset, slope))
        optimiser.zero_grad()
        hook(context_step(own, z=sample(product(own)))).backward()
        optimiser.step()
    return encoder, hook


def accuracy(encoder: TaskEncoder, hook: TaskClassifier, rows: Transitions) -> float:
    """Share of tasks found from twenty contexts."""
    chunks = rows.map(lambda x: x.unflatten(1, (20, -1)))
    found = hook.mlp(product(encoder(chunks)).mean).argmax(-1)
    return (found == torch.tensor([[0], [1]])).double().mean().item()


@pytest.mark.parametrize(("offset", "slope", "follows_rewards"), [(0.0, 1.0, True), (3.0, 0.1, False)])
def test_swapped_rewards_swap_the_answer_only_where_states_do_not_tell_the_task(offset, slope, follows_rewards) -> None:
    encoder, hook = trained(offset, slope)
    rows = [two_tasks(offset, slope) for _ in range(20)]
    rows = Transitions(*(torch.cat(x, 1) for x in zip(*rows, strict=True)))
    swapped = rows._replace(rewards=-rows.rewards)  # those of the other task for the same (s, a)
    assert accuracy(encoder, hook, rows) > 0.95
    if follows_rewards:
        assert accuracy(encoder, hook, swapped) < 0.05
    else:
        assert accuracy(encoder, hook, swapped) > 0.95
