"""The pictures of a report but for the paths, each small enough for the width of a phone."""

from collections.abc import Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from mbml_lightning.evaluation.experiment import Method
from mbml_lightning.evaluation.statistics import mean_interval

# Middle tones, which can be told apart on white and on black; the yardsticks are grey.
COLOURS = {"mbml": "#2f7fd0", "neither": "#e0702c", "bcq": "#7d8794", "sac": "#7d8794", "random": "#7d8794"}
SPARE = ("#1b9e77", "#b15bc2", "#bd9b00", "#d1495b")
DASHES = {"bcq": "--", "sac": ":", "random": "-."}
PANEL = (4.8, 3.4)  # inches; shown no larger than 480 pixels, so that text keeps its size


def colours(methods: Sequence[Method]) -> dict[str, str]:
    """Colour of every method, the same in every picture of a report."""
    others = [method.name for method in methods if method.name not in COLOURS]
    return COLOURS | {name: SPARE[i % len(SPARE)] for i, name in enumerate(others)}


def learning_curves(methods: Sequence[Method], split: str) -> Figure | None:
    """Mean return on a split against updates, one thin line a seed and their mean; dashed the references."""
    figure, axes = _panel("updates", "mean return")
    ends = []
    for method in (m for m in methods if not m.is_reference):
        colour = colours(methods)[method.name]
        ends += _draw_seeds(axes, method, f"val/return_{split}", method.label, colour)
    if not ends:
        return None
    _label_ends(axes, ends + _references(axes, methods, split))
    return figure


def losses(methods: Sequence[Method]) -> Figure | None:
    """The losses of MBML against updates: of the triplets (Eq. 9), of distilling Q (Eq. 3), and KL (Eq. 10)."""
    figure, axes = _panel("updates", "loss")
    ends = []
    for method in (m for m in methods if m.name == "mbml"):
        for name, term, colour in zip(("triplet", "Q", "KL"), ("triplet", "q", "kl"), SPARE, strict=False):
            ends += _draw_seeds(axes, method, f"train/{term}_loss", name, colour)
    if not ends:
        return None
    if np.isfinite(axes.dataLim.minposy):  # there is a positive value
        axes.set_yscale("log")
    _label_ends(axes, ends)
    return figure


def episodes(methods: Sequence[Method]) -> Figure | None:
    """Mean return on unseen tasks by episode, with intervals: what acting teaches about the task."""
    figure, axes = _panel("episode", "mean return")
    adapting = [m for m in methods if not m.is_reference and m.scores("test") is not None]
    ends = []
    for i, method in enumerate(adapting):
        returns = np.stack([e.splits["test"].returns.mean(1) for e in method.evaluations if "test" in e.splits])
        estimates = [mean_interval(returns[:, :, episode]) for episode in range(returns.shape[-1])]
        means = np.array([estimate.mean for estimate in estimates])
        reach = np.abs(np.array([[e.low, e.high] for e in estimates]).T - means)
        places = 1 + np.arange(len(means)) + 0.08 * (i - (len(adapting) - 1) / 2)  # side by side, not hidden
        axes.errorbar(
            places, means, np.nan_to_num(reach), color=colours(methods)[method.name], marker="o", lw=2, elinewidth=1.2
        )
        ends.append(End(means[-1], method.label, colours(methods)[method.name]))
    if not ends:
        return None
    first = adapting[0].evaluations[0]
    axes.axvspan(first.uncounted + 0.5, first.episodes + 0.5, color=rcParams["grid.color"], alpha=0.45, lw=0)
    axes.set_xlim(0.5, first.episodes + 0.5)
    axes.set_xticks(range(1, first.episodes + 1))
    _label_ends(axes, ends + _references(axes, methods, "test"))
    middle = (first.uncounted + first.episodes + 1) / 2
    axes.text(middle, 1.01, "counted", ha="center", va="bottom", transform=axes.get_xaxis_transform())
    return figure


def per_task(methods: Sequence[Method], split: str) -> Figure | None:
    """Counted return on each task: bars of MBML and its ablations, a stroke for each reference."""
    shown = [(method, s.mean(0)) for method in methods if (s := method.scores(split)) is not None]
    bars = [(method, scores) for method, scores in shown if not method.is_reference]
    if not bars:
        return None
    tasks = next(e.splits[split].tasks for e in bars[0][0].evaluations if split in e.splits)
    figure, axes = _panel("mean return", "", height=1.2 + len(tasks) * (0.1 + 0.13 * len(bars)))
    places, thickness = np.arange(len(tasks)), 0.76 / len(bars)
    for i, (method, scores) in enumerate(bars):
        offset = (i - (len(bars) - 1) / 2) * thickness
        axes.barh(places + offset, scores, 0.9 * thickness, color=colours(methods)[method.name], label=method.label)
    for method, scores in shown:
        if method.is_reference:
            low, high, dash = places - 0.44, places + 0.44, DASHES[method.name]
            axes.vlines(scores, low, high, color=rcParams["text.color"], ls=dash, label=method.label)
    axes.set_yticks(places, [task_name(task, i) for i, task in enumerate(tasks)])
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    handles = [*axes.containers, *axes.collections]
    columns = 5 if max(len(method.label) for method, _ in shown) < 10 else 2
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.4, handlelength=1.4)
    return figure


def task_name(task: Any, index: int) -> str:
    """A task in a few characters: a number, a goal, or what stands for more than that."""
    match task:
        case int() | float():
            return f"{task:.2f}"
        case [float() | int() as x, float() | int() as y]:
            return f"({x:.2f}, {y:.2f})"
        case _:
            return f"task {index + 1}"


def _panel(x: str, y: str, height: float = PANEL[1]) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(PANEL[0], height), layout="constrained")
    axes = figure.add_subplot()
    axes.set(xlabel=x, ylabel=y)
    axes.grid(axis="y")
    if x == "updates":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1000:g}k" if value else "0"))
    return figure, axes


class End(NamedTuple):
    """Where a line ends, and what is written there."""

    height: float
    label: str
    colour: str


def _draw_seeds(axes: Axes, method: Method, metric: str, label: str, colour: str) -> list[End]:
    """Draw a thin line for each seed, and their mean at the updates that all of them logged."""
    curves = [run.metrics.curves[metric] for run in method.runs if metric in run.metrics.curves]
    steps = reduce(np.intersect1d, [curve.steps for curve in curves]) if curves else np.zeros(0, np.int64)
    if not len(steps):
        return []
    for curve in curves if len(curves) > 1 else []:
        axes.plot(curve.steps, curve.values, color=colour, lw=0.8, alpha=0.5)
    mean = np.mean([curve.values[np.isin(curve.steps, steps)] for curve in curves], axis=0)
    axes.plot(steps, mean, color=colour, lw=2, marker="o" if len(steps) < 30 else None, ms=3.5)
    return [End(mean[-1], label, colour)]


def _references(axes: Axes, methods: Sequence[Method], split: str) -> list[End]:
    """Draw a line for each reference, at its mean on its own train tasks if it knows no others."""
    ends = []
    for method in (m for m in methods if m.is_reference):
        if estimate := method.estimate(split) or method.estimate("train"):
            axes.axhline(estimate.mean, color=COLOURS[method.name], ls=DASHES[method.name], lw=1.4, zorder=1)
            ends.append(End(estimate.mean, method.label, COLOURS[method.name]))
    return ends


def _label_ends(axes: Axes, ends: Sequence[End]) -> None:
    """Write the names at the right of the lines, moved apart where they would overlap."""
    axes.get_ylim()  # settles the limits, on which the heights depend
    to_axes = axes.transData + axes.transAxes.inverted()
    ends = sorted(ends, key=lambda end: end.height)
    heights = np.array([to_axes.transform((1, end.height))[1] for end in ends])
    heights = np.clip(np.nan_to_num(heights), 0, 1)  # a loss may end at 0, which a logarithmic axis has not
    for _ in range(100):
        overlap = np.maximum(0.07 - np.diff(heights), 0) / 2
        heights += np.append(0, overlap) - np.append(overlap, 0)
    for height, end in zip(heights, ends, strict=True):
        axes.text(1.02, height, end.label, color=end.colour, transform=axes.transAxes, va="center", weight="bold")
