"""Networks one by one, and the steps that plain implementations share."""

import math

import torch
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.nets.mlp import MLP

Losses = dict[str, Tensor]
Stacks = dict[str, list[nn.Sequential]]
"""Networks under the name of the module that holds them as a stack, in the stack's order."""


def unstack(mlp: MLP) -> list[nn.Sequential]:
    """Every network of a stack on its own, with a copy of its weights."""
    count = math.prod(mlp.members)
    layers = [
        (weight.detach().reshape(count, *weight.shape[-2:]), bias.detach().reshape(count, -1))
        for weight, bias in zip(mlp.weights, mlp.biases, strict=True)
    ]
    return [_sequential([(weight[k], bias[k]) for weight, bias in layers]) for k in range(count)]


def _sequential(layers: list[tuple[Tensor, Tensor]]) -> nn.Sequential:
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[0], weight.shape[1])
        linear.weight = nn.Parameter(weight.T.clone(memory_format=torch.contiguous_format))
        linear.bias = nn.Parameter(bias.clone())
        modules += [linear, nn.ReLU()]
    return nn.Sequential(*modules[:-1])


def polyak(target: nn.Module, online: nn.Module, rate: float) -> None:
    """The loop over parameters of most implementations."""
    with torch.no_grad():
        for old, new in zip(target.parameters(), online.parameters(), strict=True):
            old.copy_(rate * new + (1 - rate) * old)


def descend(loss: Tensor, *optimizers: Adam) -> None:
    """One step of each optimiser down the loss."""
    for optimizer in optimizers:
        optimizer.zero_grad()
    loss.backward()
    for optimizer in optimizers:
        optimizer.step()


def mean_over_tasks(losses: list[Losses]) -> Losses:
    """What is logged."""
    return {name: torch.stack([task[name].detach() for task in losses]).mean() for name in losses[0]}
