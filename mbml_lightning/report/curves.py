"""Curves and bars of a report, each small enough for the width of a phone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps, rcParams
from matplotlib.figure import Figure

from mbml_lightning.report.drawing import (
    FEW,
    LINE,
    PANEL,
    draw_references,
    draw_seeds,
    in_lines,
    name_axes,
    name_lines,
    panel,
)
from mbml_lightning.report.style import SPARE, colours, marker
from mbml_lightning.results.runs import MethodRuns
from mbml_lightning.results.statistics import interval


def learning_curves(methods: Sequence[MethodRuns], metric: str, label: str, split: str | None = None) -> Figure | None:
    """Draw a logged metric of the methods that adapt against updates: the mean of the seeds, thin the seeds of few.

    Args:
        methods: All methods.
        metric: Its name in the log.
        label: Name for a reader.
        split: Where the references' scores are drawn as well; else 0 and 1 are, between which the metric lies.
    """
    figure, axes = panel("updates", label)
    shown = [method for method in methods if not method.is_reference and method.curves(metric)]
    for method in shown:
        colour = colours(methods)[method.name]
        draw_seeds(axes, method, metric, method.label, colour, marker(method.name), thin=len(shown) <= FEW)
    if not axes.lines:
        return None
    if split:
        draw_references(axes, methods, split)
    for bound in () if split else (0, 1):
        axes.axhline(bound, color=rcParams["grid.color"], lw=1, zorder=0)
    name_lines(axes)
    return figure


def loss_names(method: MethodRuns) -> list[str]:
    """List the losses that a method logged."""
    names = {name for run in method.runs for name in run.metrics.curves}
    return sorted(name for name in names if name.startswith("train/") and name.endswith("_loss"))


def losses(methods: Sequence[MethodRuns]) -> Figure | None:
    """Draw all losses against updates, a panel for each method that logged some."""
    shown = [method for method in methods if loss_names(method)]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(columns * PANEL[0], rows * PANEL[1]), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for method, axes in zip(shown, panels, strict=False):
        names = loss_names(method)
        for name, colour in zip(names, SPARE * len(names), strict=False):
            label = name.removeprefix("train/").removesuffix("_loss").replace("_", " ")
            draw_seeds(axes, method, name, {"q": "Q", "kl": "KL"}.get(label, label), colour)
        if np.isfinite(axes.dataLim.minposy):  # there is a positive value
            axes.set_yscale("log" if axes.dataLim.ymin >= 0 else "symlog")
        name_axes(axes, "updates", "loss", in_lines(method.label) if len(shown) > 1 else "")
        name_lines(axes)
    for axes in panels:  # what is left of the last row
        axes.remove()
    return figure


def episodes(methods: Sequence[MethodRuns]) -> Figure | None:
    """Draw the mean return on unseen tasks by episode, with intervals of few methods."""
    figure, axes = panel("episode", "mean return")
    adapting = [m for m in methods if not m.is_reference and m.scores("test") is not None]
    if not adapting:
        return None
    few = len(adapting) <= FEW
    for i, method in enumerate(adapting):
        returns = np.stack([e.splits["test"].returns.mean(1) for e in method.evaluations if "test" in e.splits])
        means, reach = returns.mean((0, 1)), None
        if few:
            ends = np.array([interval(returns[..., e])[1:] for e in range(len(means))]).T
            reach = np.nan_to_num(np.abs(ends - means))
        # Side by side, not hidden; of many methods neither.
        places = 1 + np.arange(len(means)) + 0.08 * (i - (len(adapting) - 1) / 2) * few
        style: dict[str, Any] = {"color": colours(methods)[method.name], "marker": marker(method.name)}
        axes.errorbar(places, means, reach, lw=1.6, elinewidth=1.2, ms=4.5, label=method.label, **style)
    first = adapting[0].evaluations[0]
    low, high = first.uncounted + 0.5, first.episodes + 0.5
    axes.axvspan(low, high, color=rcParams["grid.color"], alpha=0.45, lw=0)
    axes.set(xlim=(0.5, high), xticks=range(1, first.episodes + 1))
    draw_references(axes, methods, "test")
    name_lines(axes)
    axes.text((low + high) / 2, 1.01, "counted", ha="center", va="bottom", transform=axes.get_xaxis_transform())
    return figure


def per_task(methods: Sequence[MethodRuns], split: str) -> Figure | None:
    """Draw the counted return on each task: bars of few methods, with a stroke for each reference; a table of many."""
    shown = [(method, s.mean(0)) for method in methods if (s := method.scores(split)) is not None]
    adapting = [method for method, _ in shown if not method.is_reference]
    if not adapting:
        return None
    tasks = next(e.splits[split].tasks for e in adapting[0].evaluations if split in e.splits)
    names = [task_name(task, i) for i, task in enumerate(tasks)]
    return _bars(methods, shown, names) if len(adapting) <= FEW else _heat(shown, names)


def _bars(methods: Sequence[MethodRuns], shown: Sequence[tuple[MethodRuns, Any]], tasks: Sequence[str]) -> Figure:
    """Draw a group of bars a task and a colour a method."""
    bars = [(method, scores) for method, scores in shown if not method.is_reference]
    more = LINE * sum(in_lines(method.label).count("\n") for method, _ in shown)
    figure, axes = panel("mean return", "", height=1.2 + more + len(tasks) * (0.1 + 0.13 * len(bars)))
    places, thickness = np.arange(len(tasks)), 0.76 / len(bars)
    for i, (method, scores) in enumerate(bars):
        offset = (i - (len(bars) - 1) / 2) * thickness
        axes.barh(
            places + offset, scores, 0.9 * thickness, color=colours(methods)[method.name], label=in_lines(method.label)
        )
    for method, scores in shown:
        if method.is_reference:
            low, high, dash = places - 0.44, places + 0.44, method.card.dash
            axes.vlines(scores, low, high, color=rcParams["text.color"], ls=dash, label=in_lines(method.label))
    axes.set_yticks(places, tasks)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    handles = [*axes.containers, *axes.collections]
    columns = 5 if max(len(method.label) for method, _ in shown) < 10 else 2
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.4, handlelength=1.4)
    return figure


def _heat(shown: Sequence[tuple[MethodRuns, Any]], tasks: Sequence[str]) -> Figure:
    """Draw a row a task and a column a method; a light cell is a high return among those of its row."""
    scores = np.array([of for _, of in shown]).T
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    shades = colormaps["cividis"]((scores - low) / np.where(high > low, high - low, 1))
    figure, axes = panel("", "", height=1.5 + 0.24 * len(tasks))
    axes.imshow(shades, aspect="auto")
    for (task, column), score in np.ndenumerate(scores):
        ink = "black" if shades[task, column, :3] @ (0.2126, 0.7152, 0.0722) > 0.45 else "white"
        axes.text(column, task, f"{score:z.0f}", color=ink, size=6.5, ha="center", va="center")
    axes.set_xticks(range(len(shown)), [in_lines(method.label) for method, _ in shown], rotation=60, ha="left", size=8)
    axes.tick_params(top=False, labeltop=True, labelbottom=False)
    axes.set_yticks(range(len(tasks)), tasks, size=8)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    return figure


def task_name(task: Any, index: int) -> str:
    """Write a task in a few characters: a number, a goal, or what stands for more than that."""
    match task:
        case int() | float():
            return f"{task:.2f}"
        case [float() | int() as x, float() | int() as y]:
            return f"({x:.2f}, {y:.2f})"
        case _:
            return f"task {index + 1}"
