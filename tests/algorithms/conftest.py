"""Batches for updates without a Trainer, and the random numbers that an update drew."""

from collections.abc import Callable

import pytest
import torch
from references import Masks
from torch import Tensor

from mbml_lightning.algorithms import contextual
from mbml_lightning.objectives import triplet
from mbml_lightning.types import TaskBatch, Transitions

S, A = 4, 2  # states and actions of UmazeGoal-M


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
def masks(monkeypatch: pytest.MonkeyPatch) -> Masks:
    """The rows last drawn at random: for the inference context, and as positives of the triplet."""
    drawn: Masks = {}

    def record(name: str, draw: Callable[[Tensor, int], Tensor]) -> Callable[[Tensor, int], Tensor]:
        def recorded(x: Tensor, count: int) -> Tensor:
            drawn[name] = draw(x, count)
            return drawn[name]

        return recorded

    monkeypatch.setattr(contextual, "draw_rows", record("context", contextual.draw_rows))
    monkeypatch.setattr(triplet, "random_rows", record("positive", triplet.random_rows))
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
