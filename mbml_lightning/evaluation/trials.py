"""Sharing of (task, trial) pairs among ranks, in chunks that are acted side by side, and merging of the results.

Chunks do not depend on the number of ranks, and every episode has its own random numbers, so that scores do not either.
"""

from collections.abc import Mapping
from itertools import groupby
from typing import NamedTuple

import numpy as np

from mbml_lightning import ranks
from mbml_lightning.evaluation.adaptation import Adaptation


class Chunk(NamedTuple):
    """Tasks and trials that are acted side by side, the unit of work of a rank."""

    split: str
    tasks: range
    trials: range


def own_chunks(
    tasks: Mapping[str, int], trials: int, copies: int, stack: range | None, stacked_tasks: int
) -> list[Chunk]:
    """List the chunks of this rank: each W-th of all, or all trials of the tasks whose policies only this rank has.

    Args:
        tasks: Number of tasks by split.
        trials: Independent trials on every task.
        copies: Environment copies stepped side by side, about.
        stack: For per-task policies, the tasks whose policies this rank has; None for one policy of all tasks.
        stacked_tasks: Number of per-task policies on all ranks.
    """
    chunks = []
    for split, count in tasks.items():
        if stack is None:  # one policy of all tasks: some tasks, each with all its trials
            size = max(1, copies // trials)
            chunks += [Chunk(split, range(count)[i : i + size], range(trials)) for i in range(0, count, size)]
        else:  # per-task policies: all of them, each with some of the trials
            size = max(1, copies // count)
            chunks += [Chunk(split, stack, range(trials)[i : i + size]) for i in range(0, trials, size)]
    if stack is None or len(stack) == stacked_tasks:
        return chunks[ranks.rank() :: ranks.world_size()]
    return chunks if ranks.rank() < stacked_tasks else []


def merge(items: list[tuple[Chunk, Adaptation]]) -> dict[str, Adaptation]:
    """Join results to one for each split, tasks and trials in their order, whichever rank acted them."""
    merged: dict[str, Adaptation] = {}
    for split in dict.fromkeys(chunk.split for chunk, _ in items):
        # chunks of the same tasks stand together, and are joined along trials first, then along tasks
        parts = sorted((c.tasks.start, c.trials.start, i) for i, (c, _) in enumerate(items) if c.split == split)
        rows = [[items[i][1] for *_, i in group] for _, group in groupby(parts, key=lambda part: part[0])]
        returns = np.concatenate([np.concatenate([r.returns for r in row], 1) for row in rows])
        merged[split] = Adaptation(returns, np.concatenate([row[0].observations for row in rows]))
    return merged
