"""Parts that several pictures share: a panel, a curve with its seeds, and the names of the lines."""

from collections.abc import Sequence
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mbml_lightning.results.runs import MethodRuns
from mbml_lightning.results.scores import align

PANEL = (4.8, 3.4)  # inches; shown no larger than 480 pixels, so that text keeps its size
FEW = 4  # methods, with more of which details would hide each other
LINE = 0.2  # inches between names that stand below each other


def panel(x: str, y: str, height: float = PANEL[1]) -> tuple[Figure, Axes]:
    """Make a figure with one set of axes."""
    figure = Figure(figsize=(PANEL[0], height), layout="constrained")
    axes = figure.add_subplot()
    name_axes(axes, x, y)
    return figure, axes


def name_axes(axes: Axes, x: str, y: str, title: str = "") -> None:
    """Label the axes and draw lines from the left; write updates as 5k, 10k."""
    axes.set(xlabel=x, ylabel=y, title=title)
    axes.grid(axis="y")
    if x == "updates":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))


def draw_seeds(
    axes: Axes, method: MethodRuns, metric: str, label: str, colour: str, marker: str = "o", thin: bool = True
) -> None:
    """Draw a line for the mean of all seeds at the updates that all of them logged, and a thin one for each seed."""
    curves = [(curve.steps, curve.values) for curve in method.curves(metric)]
    steps, shared = align(curves)
    if not len(steps):
        return
    for curve in curves if thin and len(curves) > 1 else []:
        axes.plot(*curve, color=colour, lw=0.8, alpha=0.5)
    few = marker if len(steps) < 30 else None
    axes.plot(steps, np.mean(shared, axis=0), color=colour, lw=2 if thin else 1.5, marker=few, ms=3.5, label=label)


def draw_references(axes: Axes, methods: Sequence[MethodRuns], split: str) -> None:
    """Draw a line for each reference, at its mean on its own train tasks if it knows no others."""
    for method in (m for m in methods if m.is_reference):
        if estimate := method.estimate(split) or method.estimate("train"):
            style: dict[str, Any] = {"color": method.card.colour, "ls": method.card.dash, "label": method.label}
            axes.axhline(estimate.value, lw=1.4, zorder=1, **style)


def in_lines(name: str, width: int = 24) -> str:
    """Break a long name into lines, as that of a trial of a sweep."""
    return fill(name.replace(",", ", "), width) if len(name) > width else name


def name_lines(axes: Axes) -> None:
    """Write the names of the lines at the right of the axes, in the order in which the lines end."""
    figure = axes.get_figure(root=True)
    assert figure is not None
    handles, names = axes.get_legend_handles_labels()
    lines: list[Any] = [handle[0] if isinstance(handle, tuple) else handle for handle in handles]  # of error bars
    shown = sorted(zip(lines, names, strict=True), key=lambda line: -np.nan_to_num(line[0].get_ydata()[-1]))
    shown = [(line, in_lines(name)) for line, name in shown]
    figure.set_figheight(max(figure.get_figheight(), LINE * sum(name.count("\n") + 1 for _, name in shown) + 0.8))
    looks: dict[str, Any] = {"labelcolor": "linecolor", "handlelength": 1.6, "prop": {"weight": "bold", "size": 9}}
    place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1, 0.5)}
    axes.legend([line for line, _ in shown], [name for _, name in shown], **place, **looks)
