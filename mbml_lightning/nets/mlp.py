"""Many independent networks of one shape as one module: tasks and ensemble members are leading tensor axes."""

import math
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Initializer = Callable[[Tensor, Tensor, bool], None]
"""Fills a weight ``(*members, in, out)`` and a bias ``(*members, out)``; the flag marks the output layer."""


def fan_in_uniform(weight: Tensor, bias: Tensor, is_output: bool) -> None:
    """Fill a layer as PyTorch does, weights and biases U(+-1/sqrt(in)); used by BCQ's networks."""
    bound = 1 / math.sqrt(weight.shape[-2])
    nn.init.uniform_(weight, -bound, bound)
    nn.init.uniform_(bias, -bound, bound)


def fan_out_uniform(weight: Tensor, bias: Tensor, is_output: bool) -> None:
    """Fill a layer as the official code does: hidden weights U(+-1/sqrt(out)), biases 0.1, output layer U(+-3e-3)."""
    if is_output:
        nn.init.uniform_(weight, -3e-3, 3e-3)
        nn.init.uniform_(bias, -3e-3, 3e-3)
    else:
        bound = 1 / math.sqrt(weight.shape[-1])
        nn.init.uniform_(weight, -bound, bound)
        nn.init.constant_(bias, 0.1)


class MLP(nn.Module):
    """ReLU networks, one for every index of ``members``.

    ``MLP(sizes)`` is an ordinary network for inputs with any leading axes. ``MLP(sizes, members=(2, K))`` is 2 x K
    separate ones in one batched matrix product; it takes ``(..., B, in)`` whose leading axes broadcast against
    ``members`` from the right, so that ``(K, B, in)`` goes to both networks of each task.

    Args:
        sizes: Widths of all layers, input and output included.
        members: Leading axes of the stack, none for a single network.
        init: Fills the weights of a layer.
        layer_norm: Normalise what enters each ReLU over its features, without learned factors (Ba et al., 2016).

    Example:
        >>> import torch
        >>> from mbml_lightning.nets.mlp import MLP
        >>> ensembles = MLP([3, 16, 1], members=(20, 5))  # 20 members for each of 5 tasks
        >>> ensembles(torch.zeros(5, 64, 3)).shape  # 64 transitions of each task, the same for all members
        torch.Size([20, 5, 64, 1])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        members: Sequence[int] = (),
        init: Initializer = fan_out_uniform,
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.sizes, self.members, self.layer_norm = tuple(sizes), tuple(members), layer_norm
        layers = list(zip(self.sizes[:-1], self.sizes[1:], strict=True))
        self.weights = nn.ParameterList(torch.empty(*members, *shape) for shape in layers)
        self.biases = nn.ParameterList(torch.empty(*members, out) for _, out in layers)
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            init(weight.data, bias.data, i == len(layers) - 1)

    @classmethod
    def from_state_dict(cls, state: dict[str, Tensor], prefix: str = "") -> "MLP":
        """Rebuild a stack from the weights under ``prefix`` of a checkpoint, whose shapes tell its sizes.

        Raises:
            ValueError: If no such weights are there.
        """
        own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        weights = [own[f"weights.{i}"] for i in range(len(own) // 2) if f"weights.{i}" in own]
        if not weights:
            raise ValueError(f"the checkpoint holds no weights named {prefix}weights.*: it is of another method")
        mlp = cls([weights[0].shape[-2], *(w.shape[-1] for w in weights)], weights[0].shape[:-2])
        mlp.load_state_dict(own)
        return mlp

    def forward(
        self, x: Float[Tensor, "*batch in"], member: int | None = None
    ) -> Float[Tensor, "*members_and_batch out"]:
        """Apply every network to its inputs, which gives ``(*members, B, out)``.

        Args:
            x: Inputs, whose leading axes broadcast against ``members``.
            member: Use only the networks at this index of the first stack axis, ``(*members[1:], B, out)``.
        """
        members, weights, biases = self.members, list(self.weights), list(self.biases)
        if member is not None:
            members, weights, biases = members[1:], [w[member] for w in weights], [b[member] for b in biases]
        leading = members or x.shape[:-1]
        # One matrix and not a batch of them: relu_ on a view of a product would copy its whole gradient.
        x = x.expand(*members, *x.shape[-2:]).reshape(-1, *x.shape[-2:]) if members else x.reshape(-1, x.shape[-1])
        for weight, bias in zip(weights[:-1], biases[:-1], strict=True):
            x = _affine(x, weight, bias)
            x = torch.relu_(F.layer_norm(x, x.shape[-1:]) if self.layer_norm else x)
        with torch.autocast(x.device.type, enabled=False):  # outputs are values and actions: bf16 is too coarse
            x = _affine(x.to(weights[-1].dtype), weights[-1], biases[-1])
        return x.view(*leading, *x.shape[1:])

    def extra_repr(self) -> str:
        """Describe widths and stack for ``print``."""
        return f"{' -> '.join(map(str, self.sizes))}, members={self.members}, layer_norm={self.layer_norm}"


def _affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if weight.ndim == 2:
        return F.linear(x, weight.mT, bias)
    return torch.baddbmm(bias.flatten(0, -2).unsqueeze(-2), x, weight.flatten(0, -3))
