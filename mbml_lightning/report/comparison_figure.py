"""Figures 4, 6, 11 and 12 of the paper: methods on unseen tasks, while training and at its end."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbml_lightning.errors import ResultsError
from mbml_lightning.report import figures
from mbml_lightning.report.drawing import draw_references, in_lines, name_axes, name_lines
from mbml_lightning.report.style import colours, marker
from mbml_lightning.report.tables import csv_text, statistics_csv, statistics_markdown
from mbml_lightning.results.comparison import compare
from mbml_lightning.results.runs import MethodRuns, read_experiment
from mbml_lightning.results.scores import learning, task_curves
from mbml_lightning.results.statistics import Estimate


def make(figure: figures.Figure, runs: Sequence[Path]) -> figures.Drawn:
    """Compare the methods of a figure, as far as they were run.

    Raises:
        ResultsError: Fewer than two of the methods that it is about were evaluated.
    """
    experiment = read_experiment(runs)
    there = {
        method.name: method
        for method in experiment.methods
        if any(task_curves(run.metrics, "test") for run in method.runs) or final_estimate(method)
    }
    # References, and what not every distribution has, are shown where they are.
    needed = [method for method in figure.methods if not method.is_reference and method.physics == "all"]
    missing = [method.label for method in needed if method.name not in there]
    said = f"figure {figure.number}: {' and '.join(missing)} not evaluated on unseen tasks; train first"
    if len(needed) - len(missing) < 2:
        raise ResultsError(said)
    methods = [there[method.name] for method in figure.methods if method.name in there]
    labels = {method.name: figure.label(method.card) for method in methods}
    first = there.get("mbml", methods[0])
    statistics = compare(methods, first)
    return figures.Drawn(
        lambda: draw(methods, labels),
        statistics_csv(statistics),
        statistics_markdown(statistics, first.label),
        _curves_csv(methods),
        [*experiment.problems, *([said] if missing else [])],
    )


def final_estimate(method: MethodRuns) -> Estimate | None:
    """Estimate the final score on unseen tasks, of a reference that knows none on its own train tasks."""
    return method.estimate("test") or (method.estimate("train") if method.is_reference else None)


def draw(methods: Sequence[MethodRuns], labels: Mapping[str, str]) -> Figure:
    """Draw the learning curves and the final scores of methods.

    At the left the mean return on unseen tasks against updates; the band is one standard deviation over tasks of
    the mean over seeds, as in the paper. At the right the final score with its 95% interval over seeds and tasks.

    Args:
        methods: From top to bottom.
        labels: Names in the figure, by name.
    """
    figure = Figure(figsize=(9.2, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    for method in (m for m in methods if not m.is_reference):
        if curves := learning(method):
            tasks, colour = curves.test.mean(0), colours(methods)[method.name]
            mean, deviation = tasks.mean(1), tasks.std(1)
            few = marker(method.name) if len(mean) < 30 else None
            left.plot(curves.steps, mean, color=colour, lw=2, marker=few, ms=4)
            left.fill_between(curves.steps, mean - deviation, mean + deviation, color=colour, alpha=0.13, lw=0)
    draw_references(left, methods, "test")
    name_axes(left, "updates", "return on unseen tasks", "mean ± deviation over tasks")
    name_lines(left)
    _draw_scores(right, methods, labels)
    return figure


def _draw_scores(axes: Axes, methods: Sequence[MethodRuns], labels: Mapping[str, str]) -> None:
    """Draw a row a method; references that know no unseen tasks stand at their score on their own."""
    names = []
    for row, method in enumerate(methods):
        colour, estimate = colours(methods)[method.name], final_estimate(method)
        names.append(
            in_lines(labels[method.name]) + " (own train tasks)" * bool(estimate and method.scores("test") is None)
        )
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


def _curves_csv(methods: Sequence[MethodRuns]) -> str:
    """Write the return of every seed, evaluation and unseen task, a line each."""
    lines = [
        (method.name, run.seed, step, task, value)
        for method in methods
        for run in method.runs
        if (curves := task_curves(run.metrics, "test"))
        for step, returns in zip(curves.steps, curves.returns, strict=True)
        for task, value in enumerate(returns)
    ]
    return csv_text(["method", "seed", "updates", "task", "return"], lines)
