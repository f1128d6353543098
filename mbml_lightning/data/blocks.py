"""Blocks of updates: the batches that a Lightning loader yields, drawn on the device that trains."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch

from mbml_lightning.data.rows import Rows, Window
from mbml_lightning.ranks import Share
from mbml_lightning.seeds import seed_of
from mbml_lightning.types import TaskBatch


class Plan(NamedTuple):
    """Sizes of the batches and blocks that a method wants.

    Attributes:
        batch_size: Transitions a task to learn from in one update (B).
        context_rows: Transitions a task in one update, for all contexts from which the task is inferred; 0 for none.
        updates_per_block: Updates of a block.
        seed: Seed of the run.
        share: The tasks or rows that this rank uses.
        window: Consecutive transitions that a context is drawn from, None for all.
    """

    batch_size: int
    context_rows: int
    updates_per_block: int
    seed: int
    share: Share
    window: Window | None = None


class Block:
    """One Lightning batch: the batches of some consecutive updates, each drawn when it is needed.

    Hooks, loggers and progress bars cost once a block instead of once an update. All randomness of a block follows from
    its key, that of drawing and that of the updates, so that a resumed run repeats the uninterrupted one. (A plain
    class: Lightning would copy a dataclass, and with it all rows, to the device.)

    Args:
        rows: Where batches are drawn from.
        plan: How large they are.
        size: Number of updates.
        key: Seed of all random numbers of the block.
    """

    def __init__(self, rows: Rows, plan: Plan, size: int, key: int) -> None:
        self.rows, self.plan, self.size, self.key = rows, plan, size, key

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[TaskBatch]:
        sampler, plan = torch.Generator(self.rows.packed.device).manual_seed(self.key), self.plan
        for _ in range(self.size):
            yield self.rows.draw(sampler, plan.batch_size, plan.context_rows, plan.share, plan.window)


class Blocks:
    """Loader of a whole training in one epoch, whose blocks continue after the updates already made.

    Args:
        rows: Where batches are drawn from.
        plan: How the method wants them.
        max_steps: Updates of the training.
        done: Tells how many updates are done.

    Raises:
        ValueError: If the training has no end.
    """

    def __init__(self, rows: Rows, plan: Plan, max_steps: int, done: Callable[[], int]) -> None:
        if max_steps < 1:
            raise ValueError(f"trainer.max_steps is {max_steps}: set it to the number of gradient updates")
        self.rows, self.plan, self.max_steps, self.done = rows, plan, max_steps, done

    @classmethod
    def of(cls, trainer: Any, rows: Rows) -> "Blocks":
        """Make the blocks for the method that a Trainer trains."""
        return cls(rows, trainer.lightning_module.plan, trainer.max_steps, lambda: trainer.global_step)

    def __len__(self) -> int:
        return -(-self.max_steps // self.plan.updates_per_block)

    def __iter__(self) -> Iterator[Block]:
        for _ in range(len(self)):  # of a resumed run, Lightning stops asking when all updates are made
            done = self.done()
            size = min(self.plan.updates_per_block, self.max_steps - done)
            yield Block(self.rows, self.plan, size, seed_of(self.plan.seed, done, bits=56))
