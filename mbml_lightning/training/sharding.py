"""K independent learners shared out over ranks: each rank keeps its own tasks, a checkpoint holds all of them."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from mbml_lightning.nets.mlp import MLP

Axes = dict[str, int]
"""By the name of a parameter or buffer, the axis on which its tasks are."""
State = dict[str, Any]
"""``state_dict`` and ``optimizer_states`` of a checkpoint."""


def task_axes(learners: nn.Module) -> Axes:
    """Find the axis of tasks of every parameter and buffer: the last of a network's stack, the first of any other."""
    axes = dict.fromkeys(learners.state_dict(), 0)
    for prefix, mlp in learners.named_modules():
        if isinstance(mlp, MLP):
            axes |= {f"{prefix}.{name}": len(mlp.members) - 1 for name, _ in mlp.named_parameters()}
    return axes


def optimizer_axes(axes: Axes, learners: nn.Module, optimizers: Sequence[Optimizer]) -> list[list[int]]:
    """Find the axis of tasks of each optimiser's parameters, in their order."""
    by_parameter = {id(parameter): axes[name] for name, parameter in learners.named_parameters()}
    return [[by_parameter[id(p)] for p in optimizer.param_groups[0]["params"]] for optimizer in optimizers]


def keep_tasks(learners: nn.Module, tasks: range) -> None:
    """Drop the weights of all other tasks; call it before optimisers are made."""
    axes = task_axes(learners)
    for name, tensor in (*learners.named_parameters(), *learners.named_buffers()):
        tensor.data = tensor.data.narrow(axes[name], tasks.start, len(tasks)).clone()
    for module in learners.modules():
        if isinstance(module, MLP):
            module.members = (*module.members[:-1], len(tasks))


def join(parts: Sequence[State], axes: Axes, optimizers: list[list[int]]) -> State:
    """Join the states of all ranks to that of all tasks."""
    return _rebuild(parts, axes, optimizers, lambda tensors, axis: torch.cat(tensors, axis))


def on_cpu(state: State, axes: Axes, optimizers: list[list[int]]) -> State:
    """Copy a state to the CPU, to be sent to other ranks."""
    return _rebuild([state], axes, optimizers, lambda tensors, axis: tensors[0].cpu())


def cut(state: State, axes: Axes, optimizers: list[list[int]], tasks: range) -> State:
    """Cut the state of some tasks out of that of all."""
    return _rebuild([state], axes, optimizers, lambda x, axis: x[0].narrow(axis, tasks.start, len(tasks)).clone())


def _rebuild(
    parts: Sequence[State], axes: Axes, optimizers: list[list[int]], change: Callable[[list[Tensor], int], Tensor]
) -> State:
    """Make a state whose every tensor is ``change(tensors at its place in all parts, its axis of tasks)``."""
    weights = {name: change([part["state_dict"][name] for part in parts], axis) for name, axis in axes.items()}
    rebuilt: State = {"state_dict": OrderedDict(weights)}
    if states := [part["optimizer_states"] for part in parts if part.get("optimizer_states")]:
        by_optimizer = zip(zip(*states, strict=True), optimizers, strict=True)
        rebuilt["optimizer_states"] = [_rebuild_moments(list(found), axis, change) for found, axis in by_optimizer]
    return rebuilt


def _rebuild_moments(parts: list[State], axes: list[int], change: Callable[[list[Tensor], int], Tensor]) -> State:
    """Make the state of one optimiser: moments have their parameter's shape, its count of steps has no axes."""
    moments: dict[int, dict[str, Tensor]] = {}
    for i, first in parts[0]["state"].items():
        moments[i] = {
            name: change([part["state"][i][name] for part in parts], axes[i]) if value.ndim else value.cpu()
            for name, value in first.items()
        }
    return parts[0] | {"state": moments}
