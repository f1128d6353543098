"""That two implementations do the same comes before which of them is faster."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from benchmarks.references import Reference
from mbml_lightning.algorithms import Algorithm
from mbml_lightning.types import TaskBatch


def check_agreement(ours: Algorithm, reference: Reference, batches: Sequence[TaskBatch], tolerance: float) -> None:
    """Both make the same updates from the same weights and random numbers.

    Args:
        ours: A method.
        reference: Its plain version.
        batches: One for each update.
        tolerance: Largest difference of a loss, and of the weights as a share of what the updates changed in them.

    Raises:
        AssertionError: If they do not.
    """
    start = {name: [w.clone() for w in _weights(ours, name)] for name in reference.stacks}
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        expected = reference.update(batch)
        torch.manual_seed(seed)
        actual = ours.update(batch)
        for name, value in expected.items():
            assert torch.isclose(actual[name], value, rtol=tolerance, atol=tolerance), (name, actual[name], value)
    for name, nets in reference.stacks.items():
        for before, mine, plain in zip(start[name], _weights(ours, name), _restacked(nets), strict=True):
            error, change = (mine - plain).abs().mean(), (plain - before).abs().mean()
            assert error <= tolerance * change, (name, error, change)


def _weights(ours: Algorithm, name: str) -> list[Tensor]:
    module = getattr(getattr(ours, "networks", ours), name)
    mlp = getattr(module, "mlp", module)
    return [w.detach().reshape(-1, *w.shape[len(mlp.members) :]) for w in (*mlp.weights, *mlp.biases)]


def _restacked(nets: Sequence[nn.Sequential]) -> list[Tensor]:
    layers = list(zip(*([m for m in net if isinstance(m, nn.Linear)] for net in nets), strict=True))
    weights = [torch.stack([linear.weight.detach().T for linear in layer]) for layer in layers]
    return [*weights, *(torch.stack([linear.bias.detach() for linear in layer]) for layer in layers)]
