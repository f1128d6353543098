"""What a machine's matrix products allow, and how exact they are."""

import functools
import statistics

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.measuring import SETTINGS, Rows, alternate, under

MATRIX = 2048
"""Rows and columns of the matrices by which the machine is described."""


def product_rates(shape: tuple[int, int, int, int], rounds: int, device: torch.device) -> dict[str, float]:
    """GFLOP/s of the three products of one layer (outputs, gradients of inputs and of weights) under each setting.

    Args:
        shape: Networks, rows, inputs, outputs.
        rounds: Samples.
        device: Where.
    """
    nets, rows, inputs, outputs = shape
    operands = {}
    for setting in SETTINGS:
        dtype = torch.bfloat16 if setting.autocast else torch.float32
        sizes = ((nets, rows, inputs), (nets, inputs, outputs), (nets, rows, outputs))
        operands[setting] = [
            torch.randn(*(size[1:] if nets == 1 else size), device=device, dtype=dtype) for size in sizes
        ]

    def layer(x: Tensor, w: Tensor, g: Tensor) -> None:
        _ = x @ w, g @ w.mT, x.mT @ g

    calls = {s.name: under(s, device, functools.partial(layer, *operands[s])) for s in SETTINGS}
    work = 6e-9 * nets * rows * inputs * outputs
    return {name: work / statistics.median(seconds) for name, seconds in alternate(calls, rounds, device).items()}


def product_errors(device: torch.device) -> dict[str, float]:
    """Relative error (Frobenius) of a float32 linear layer against float64 under each setting."""
    x, w = torch.randn(MATRIX, MATRIX, device=device), torch.randn(MATRIX, MATRIX, device=device)
    exact = F.linear(x.double(), w.double())
    errors = {}
    for setting in SETTINGS:
        with setting.active(device):
            errors[setting.name] = ((F.linear(x, w).double() - exact).norm() / exact.norm()).item()
    return errors


def describe(rounds: int, device: torch.device) -> Rows:
    """Rate and error of large products under each setting."""
    rates, errors = product_rates((1, MATRIX, MATRIX, MATRIX), rounds, device), product_errors(device)
    return [{"setting": name, "GFLOP/s": rates[name], "relative error": errors[name]} for name in rates]
