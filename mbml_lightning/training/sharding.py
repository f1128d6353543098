"""K independent learners shared out over ranks: each rank keeps its own tasks, a checkpoint holds all of them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mbml_lightning.nets.mlp import MLP

Axes = dict[str, int]
"""By the name of a parameter, the axis on which its tasks are."""
State = dict[str, Any]
"""``state_dict`` and ``optimizer_states`` of a checkpoint."""


def task_axes(learners: nn.Module) -> Axes:
    """The last axis of a network's stack; the first axis of any other parameter."""
    axes = {name: 0 for name, _ in learners.named_parameters()}
    for prefix, mlp in learners.named_modules():
        if isinstance(mlp, MLP):
            axes |= {f"{prefix}.{name}": len(mlp.members) - 1 for name, _ in mlp.named_parameters()}
    return axes


def optimizer_axes(axes: Axes, learners: nn.Module, optimizers: Sequence[Optimizer]) -> list[list[int]]:
    """The same for each optimiser's parameters, in their order."""
    by_parameter = {id(parameter): axes[name] for name, parameter in learners.named_parameters()}
    return [[by_parameter[id(p)] for p in optimizer.param_groups[0]["params"]] for optimizer in optimizers]


def keep_tasks(learners: nn.Module, tasks: range) -> None:
    """Forget all other tasks; before there are optimisers."""
    axes = task_axes(learners)
    for name, parameter in learners.named_parameters():
        parameter.data = _narrow(tasks)([parameter.data], axes[name])
    for module in learners.modules():
        if isinstance(module, MLP):
            module.members = (*module.members[:-1], len(tasks))


def join(parts: Sequence[State], axes: Axes, optimizers: list[list[int]]) -> State:
    """The state of all tasks from those of the ranks, in their order."""
    return _rebuild(parts, axes, optimizers, lambda tensors, axis: torch.cat(tensors, axis))


def on_cpu(state: State, axes: Axes, optimizers: list[list[int]]) -> State:
    """The same where other ranks can read it."""
    return _rebuild([state], axes, optimizers, lambda tensors, axis: tensors[0].cpu())


def cut(state: State, axes: Axes, optimizers: list[list[int]], tasks: range) -> State:
    """The state of some tasks from that of all."""
    return _rebuild([state], axes, optimizers, _narrow(tasks))


def _narrow(tasks: range) -> Callable[[list[Tensor], int], Tensor]:
    return lambda tensors, axis: tensors[0].narrow(axis, tasks.start, len(tasks)).clone()


def _rebuild(
    parts: Sequence[State], axes: Axes, optimizers: list[list[int]], change: Callable[[list[Tensor], int], Tensor]
) -> State:
    """``change`` makes each tensor from those at its place and its axis of tasks; an optimiser's count is the same."""
    weights = ((name, change([part["state_dict"][name] for part in parts], axis)) for name, axis in axes.items())
    states = []
    for i, optimizer in enumerate(parts[0].get("optimizer_states", [])):
        moments = {
            j: {
                name: change([part["optimizer_states"][i]["state"][j][name] for part in parts], optimizers[i][j])
                if value.ndim
                else value.cpu()
                for name, value in state.items()
            }
            for j, state in optimizer["state"].items()
        }
        states.append(optimizer | {"state": moments})
    return {"state_dict": OrderedDict(weights)} | ({"optimizer_states": states} if states else {})
