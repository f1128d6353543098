"""Updates without a Trainer, double precision, networks of a stack as ordinary ones, the noise that was drawn."""

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from mbml_lightning.algorithms import Algorithm
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.types import TaskBatch, Transitions

DISTRIBUTION, S, A = "UmazeGoalM", 4, 2  # states and actions of different size
Separate = Callable[..., nn.Sequential]


@pytest.fixture
def double_precision() -> Iterator[None]:
    """For comparisons with references, with fixed random numbers."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def make() -> Callable[..., Algorithm]:
    """Makes a method whose `update` can be called, its weights so large that no mix-up goes unseen."""
    trainers = []  # Lightning keeps a weak reference

    def make(method: type[Algorithm], **arguments) -> Algorithm:
        algorithm = method(DISTRIBUTION, **arguments)
        for name, p in algorithm.named_parameters():
            if (".mlp." in name and "target" not in name) or name.startswith("ensemble"):
                nn.init.normal_(p, std=p.shape[-2] ** -0.5 if "weights" in name else 0.3)
        found = algorithm.configure_optimizers()
        trainers.append(SimpleNamespace(world_size=1, optimizers=found if isinstance(found, list) else [found]))
        algorithm.trainer = trainers[-1]
        return algorithm

    return make


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """All normal numbers, in the order in which they were drawn."""
    drawn: list[Tensor] = []

    def recorded(draw: Callable[..., Tensor]) -> Callable[..., Tensor]:
        return lambda *args, **options: drawn.append(draw(*args, **options)) or drawn[-1]

    for name in ("randn", "randn_like"):
        monkeypatch.setattr(torch, name, recorded(getattr(torch, name)))
    return drawn


@pytest.fixture
def transitions() -> Callable[..., Transitions]:
    """Random transitions, some of them ends."""

    def make(*leading: int) -> Transitions:
        s, a, next_s = (torch.randn(*leading, n) for n in (S, A, S))
        ends = (torch.rand(leading) < 0.3).to(s.dtype)
        return Transitions(s, a.clamp(-1, 1), torch.randn(leading), next_s, ends)

    return make


@pytest.fixture
def batch(transitions: Callable[..., Transitions]) -> Callable[..., TaskBatch]:
    """A batch of K tasks, with contexts if asked."""

    def make(tasks: int, rows: int, context: int = 0) -> TaskBatch:
        if not context:
            return TaskBatch(transitions(tasks, rows))
        index = torch.arange(context).expand(tasks, context)
        return TaskBatch(transitions(tasks, rows), transitions(tasks, context), index)

    return make


@pytest.fixture
def separate() -> Separate:
    """Copies the network at one index of a stack into an ordinary one."""

    def copy(mlp: MLP, *index: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for weight, bias in zip(mlp.weights, mlp.biases, strict=True):
            linear = nn.Linear(*weight.shape[-2:])
            linear.weight.data, linear.bias.data = weight.data[index].T.clone(), bias.data[index].clone()
            layers += [linear, nn.ReLU()]
        return nn.Sequential(*layers[:-1])

    return copy


@pytest.fixture
def assert_same() -> Callable[..., None]:
    """The network at one index of a stack has the weights of an ordinary one."""

    def compare(mlp: MLP, net: nn.Sequential, *index: int) -> None:
        linears = [layer for layer in net if isinstance(layer, nn.Linear)]
        for weight, bias, linear in zip(mlp.weights, mlp.biases, linears, strict=True):
            torch.testing.assert_close(weight.data[index], linear.weight.data.T, rtol=0, atol=1e-9)
            torch.testing.assert_close(bias.data[index], linear.bias.data, rtol=0, atol=1e-9)

    return compare
