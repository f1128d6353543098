"""Rules that choose the evaluation of a training that counts, from its learning curve."""

from collections.abc import Sequence
from functools import reduce
from itertools import count, takewhile
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64, Int, Int64

from mbml_lightning.files.log import Metrics
from mbml_lightning.results.runs import MethodRuns, Run

EPOCH = 100  # updates, as in the paper


class TaskCurves(NamedTuple):
    """Returns on every task of a split while training, at the updates at which all were finite."""

    steps: Int64[np.ndarray, " evaluations"]
    returns: Float64[np.ndarray, "evaluations tasks"]


class Learning(NamedTuple):
    """Returns of every seed at the updates that all runs of a method share; ``train`` is None where not evaluated."""

    steps: Int64[np.ndarray, " evaluations"]
    test: Float64[np.ndarray, "seeds evaluations tasks"]
    train: Float64[np.ndarray, "seeds evaluations train_tasks"] | None


class Trailing(NamedTuple):
    """The paper's statistic: a trailing mean over evaluations and tasks, and its deviation over tasks."""

    value: float
    spread: float
    step: int


def align(
    curves: Sequence[tuple[Int64[np.ndarray, "_"], Float64[np.ndarray, "_ ..."]]],
) -> tuple[Int64[np.ndarray, " shared"], list[Float64[np.ndarray, "shared ..."]]]:
    """Find the steps that several curves share, and the values of each there."""
    steps = reduce(np.intersect1d, [steps for steps, _ in curves]) if curves else np.zeros(0, np.int64)
    return steps, [values[np.isin(own, steps)] for own, values in curves]


def task_curves(metrics: Metrics, split: str) -> TaskCurves | None:
    """Collect the curves ``val/return_<split>_task_<i>``; None where there are none, or no evaluation that all have."""
    names = takewhile(metrics.curves.__contains__, (f"val/return_{split}_task_{i}" for i in count()))
    steps, columns = align([(curve.steps, curve.values) for curve in map(metrics.curves.get, names) if curve])
    if not len(steps):
        return None
    returns = np.stack(columns, 1)
    finite = np.isfinite(returns).all(1)
    return TaskCurves(steps[finite], returns[finite]) if finite.any() else None


def learning(method: MethodRuns) -> Learning | None:
    """Collect the learning curves of the finished runs, or of all where none is finished; None without unseen tasks."""
    runs = [run for run in method.runs if run.evaluation] or method.runs
    found = [(run, test) for run in runs if (test := task_curves(run.metrics, "test"))]
    alike = [(run, test) for run, test in found if test.returns.shape[1] == found[0][1].returns.shape[1]]
    trains = [curves for run, _ in alike if (curves := task_curves(run.metrics, "train"))]
    trains = trains if len({curves.returns.shape[1] for curves in trains}) == 1 and len(trains) == len(alike) else []
    steps, returns = align([*(test for _, test in alike), *trains])
    if not len(steps):
        return None
    return Learning(steps, np.stack(returns[: len(alike)]), np.stack(returns[len(alike) :]) if trains else None)


def chosen(
    scores: Float[np.ndarray, "seeds evaluations tasks"], by: Float[np.ndarray, "seeds evaluations judged_tasks"]
) -> Float[np.ndarray, "seeds tasks"]:
    """Choose for each seed the first evaluation whose mean over the tasks of ``by`` is highest."""
    return scores[np.arange(len(scores)), by.mean(2).argmax(1)]


def paper_statistic(runs: Sequence[Run]) -> Trailing | None:
    """Compute ``trailing_best`` of the run with the lowest seed: the paper trained one."""
    for run in sorted(runs, key=lambda run: (len(run.seed), run.seed)):
        if curves := task_curves(run.metrics, "test"):
            return trailing_best(*curves)
    return None


def trailing_best(
    steps: Int[np.ndarray, " evaluations"],
    returns: Float[np.ndarray, "evaluations tasks"],
    window: int = 30 * EPOCH,
    limit: int = 600 * EPOCH,
) -> Trailing | None:
    """Find the highest trailing mean of a learning curve, as the released plotting code reports it.

    At each evaluation, the mean of the evaluations in the ``window`` updates before, without itself; early ones take
    what there is. None where no evaluation has another one within the window.

    Args:
        steps: Updates, ascending.
        returns: Returns of every evaluation and task.
        window: Updates that the mean reaches back, 30 epochs.
        limit: Updates after which no evaluation counts, 600 epochs.
    """
    candidates = []
    for step in steps[steps <= limit]:
        before = returns[(steps >= step - window) & (steps < step)]
        if len(before):
            tasks = before.mean(0)
            candidates.append(Trailing(float(tasks.mean()), float(tasks.std()), int(step)))
    return max(candidates, key=lambda candidate: candidate.value, default=None)
