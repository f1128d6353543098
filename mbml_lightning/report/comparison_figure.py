"""Figures 4, 6, 11 and 12 of the paper: methods on unseen tasks, while training and at its end."""

import csv
import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbml_lightning.report.drawing import draw_references, label_ends, thousands
from mbml_lightning.report.style import colours, marker
from mbml_lightning.results.runs import Method
from mbml_lightning.results.scores import learning, task_curves


def draw(methods: Sequence[Method], labels: Mapping[str, str]) -> Figure:
    """The figure.

    At the left the mean return on unseen tasks against updates; the band is one standard deviation over tasks of
    the mean over seeds, as in the paper. At the right the final score with its 95% interval over seeds and tasks.

    Args:
        methods: From top to bottom.
        labels: What they are called, by name.
    """
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    for method in (m for m in methods if not m.is_reference):
        _draw_learning(left, method, colours(methods)[method.name])
    references = draw_references(left, methods, "test")
    left.set(xlabel="updates", ylabel="return on unseen tasks", title="mean ± deviation over tasks")
    left.grid(axis="y")
    thousands(left)
    label_ends(left, references)
    _draw_scores(right, methods, labels)
    return figure


def _draw_learning(axes: Axes, method: Method, colour: str) -> None:
    if (curves := learning(method)) is None:
        return
    tasks = curves.test.mean(0)
    mean, deviation = tasks.mean(1), tasks.std(1)
    few = marker(method.name) if len(mean) < 30 else None
    axes.plot(curves.steps, mean, color=colour, lw=2, marker=few, ms=4)
    axes.fill_between(curves.steps, mean - deviation, mean + deviation, color=colour, alpha=0.13, lw=0)


def _draw_scores(axes: Axes, methods: Sequence[Method], labels: Mapping[str, str]) -> None:
    """A row a method; references that know no unseen tasks stand at their score on their own."""
    names = []
    for row, method in enumerate(methods):
        colour, unseen = colours(methods)[method.name], method.estimate("test")
        estimate = unseen or (method.estimate("train") if method.is_reference else None)
        names.append(labels[method.name] + " (own train tasks)" * bool(estimate and not unseen))
        if estimate:
            reach = np.nan_to_num([[estimate.value - estimate.low], [estimate.high - estimate.value]])
            axes.errorbar(estimate.value, row, xerr=reach, color=colour, marker=marker(method.name), ms=7, lw=2.5)
    axes.yaxis.tick_right()
    axes.set_yticks(range(len(names)), names)
    for text, method in zip(axes.get_yticklabels(), methods, strict=True):
        text.set(color=colours(methods)[method.name], weight="bold")
    axes.spines["left"].set_visible(False)
    axes.set(ylim=(len(names) - 0.5, -0.5), xlabel="final score", title="95% interval")
    axes.grid(axis="x")


def curves_csv(methods: Sequence[Method]) -> str:
    """Return of every seed, evaluation and unseen task, a line each."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["method", "seed", "updates", "task", "return"])
    for method in methods:
        for run in method.runs:
            if curves := task_curves(run.metrics, "test"):
                for step, returns in zip(curves.steps, curves.returns, strict=True):
                    writer.writerows([method.name, run.seed, step, i, value] for i, value in enumerate(returns))
    return file.getvalue()
