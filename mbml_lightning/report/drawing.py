"""What several pictures share: a panel, a curve with its seeds, and names at the ends of lines."""

from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from scipy.optimize import isotonic_regression

from mbml_lightning.report.style import COLOURS, DASHES
from mbml_lightning.results.runs import Method

PANEL = (4.8, 3.4)  # inches; shown no larger than 480 pixels, so that text keeps its size
FEW = 4  # methods, with more of which details would hide each other
LINE = 0.2  # inches between names that stand below each other


class End(NamedTuple):
    """Where a line ends, and what is written there."""

    height: float
    label: str
    colour: str


def panel(x: str, y: str, height: float = PANEL[1]) -> tuple[Figure, Axes]:
    """A figure with one set of axes."""
    figure = Figure(figsize=(PANEL[0], height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(axis="y")
    if x == "updates":
        thousands(axes)
    return figure, axes


def thousands(axes: Axes) -> None:
    """Updates as 5k, 10k."""
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))


def draw_seeds(
    axes: Axes, method: Method, metric: str, label: str, colour: str, marker: str = "o", thin: bool = True
) -> list[End]:
    """Draw a line for the mean of all seeds at the updates that all of them logged, and a thin one for each seed."""
    curves = [run.metrics.curves[metric] for run in method.runs if metric in run.metrics.curves]
    steps = reduce(np.intersect1d, [curve.steps for curve in curves]) if curves else np.zeros(0, np.int64)
    if not len(steps):
        return []
    for curve in curves if thin and len(curves) > 1 else []:
        axes.plot(curve.steps, curve.values, color=colour, lw=0.8, alpha=0.5)
    mean = np.mean([curve.values[np.isin(curve.steps, steps)] for curve in curves], axis=0)
    axes.plot(steps, mean, color=colour, lw=2 if thin else 1.5, marker=marker if len(steps) < 30 else None, ms=3.5)
    return [End(mean[-1], label, colour)]


def draw_references(axes: Axes, methods: Sequence[Method], split: str) -> list[End]:
    """Draw a line for each reference, at its mean on its own train tasks if it knows no others."""
    ends = []
    for method in (m for m in methods if m.is_reference):
        if estimate := method.estimate(split) or method.estimate("train"):
            axes.axhline(estimate.value, color=COLOURS[method.name], ls=DASHES[method.name], lw=1.4, zorder=1)
            ends.append(End(estimate.value, method.label, COLOURS[method.name]))
    return ends


def label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write the names at the right of the lines: as near to their ends as they can be without overlapping."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    figure.set_figheight(max(figure.get_figheight(), LINE * len(ends) + 0.8))
    axes.get_ylim()  # settles the limits, on which the heights depend
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = sorted(ends, key=lambda end: end.height)
    heights = np.array([to_axes.transform((1, end.height))[1] for end in ends])
    gap = LINE / (figure.get_figheight() - 0.6)
    places = spread(np.nan_to_num(heights), gap)  # a loss may end at 0, which a logarithmic axis has not
    for height, end in zip(places, ends, strict=True):
        axes.text(1.02, height, end.label, color=end.colour, transform=axes.transAxes, va="center", weight="bold")


def spread(heights: np.ndarray, gap: float) -> np.ndarray:
    """The places in [0, 1], at least ``gap`` apart, that are nearest to ascending ``heights`` in least squares."""
    steps = gap * np.arange(len(heights))
    if not len(heights):
        return heights
    nearest: np.ndarray = isotonic_regression(np.clip(heights, 0, 1) - steps).x
    places: np.ndarray = np.clip(nearest, 0, max(0.0, 1 - steps[-1])) + steps
    return places
