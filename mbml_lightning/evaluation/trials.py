"""Which (task, trial) pairs a rank acts, side by side in chunks, and the results of all ranks in one.

Chunks do not depend on the number of ranks, and every episode has its own random numbers, so that scores do not either.
"""

from collections.abc import Iterator, Mapping
from itertools import groupby

import numpy as np

from mbml_lightning import ranks
from mbml_lightning.evaluation.adaptation import Adaptation, Chunk


def own_chunks(
    tasks: Mapping[str, int], trials: int, copies: int, stack: range | None, stacked_tasks: int
) -> list[Chunk]:
    """The chunks of this rank: every so many of all, or, where it has tasks of its own, all trials of those.

    Args:
        tasks: How many are acted on, by split.
        trials: Independent trials on every task.
        copies: Simulations stepped side by side, about.
        stack: For a policy with one member a task, whose members this rank has; else None.
        stacked_tasks: How many members such a policy has on all ranks.
    """
    if stack is None:
        return list(_of_any_tasks(tasks, trials, copies))[ranks.rank() :: ranks.world_size()]
    mine = list(_of_members(tasks, trials, copies, stack))
    if len(stack) == stacked_tasks:
        return mine[ranks.rank() :: ranks.world_size()]
    return mine if ranks.rank() in ranks.first_ranks(stacked_tasks) else []


def _of_any_tasks(tasks: Mapping[str, int], trials: int, copies: int) -> Iterator[Chunk]:
    size = max(1, copies // trials)
    for split, count in tasks.items():
        yield from (Chunk(split, range(count)[i : i + size], range(trials)) for i in range(0, count, size))


def _of_members(tasks: Mapping[str, int], trials: int, copies: int, stack: range) -> Iterator[Chunk]:
    """A stack acts with all its members at once."""
    for split, count in tasks.items():
        size = max(1, copies // count)
        yield from (Chunk(split, stack, range(trials)[i : i + size]) for i in range(0, trials, size))


def merge(items: list[tuple[Chunk, Adaptation]]) -> dict[str, Adaptation]:
    """Results by split, tasks and trials in their order, whichever rank made them."""
    merged: dict[str, Adaptation] = {}
    for split in dict.fromkeys(chunk.split for chunk, _ in items):
        parts = sorted((c.tasks.start, c.trials.start, i) for i, (c, _) in enumerate(items) if c.split == split)
        rows = [[items[i][1] for *_, i in group] for _, group in groupby(parts, key=lambda part: part[0])]
        returns = np.concatenate([np.concatenate([r.returns for r in row], 1) for row in rows])
        merged[split] = Adaptation(returns, np.concatenate([row[0].observations for row in rows]))
    return merged
