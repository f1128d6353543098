"""The pictures of a report but for paths and posteriors, each small enough for the width of a phone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import colormaps, rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbml_lightning.report.drawing import FEW, End, draw_references, draw_seeds, label_ends, panel
from mbml_lightning.report.style import DASHES, SPARE, colours, marker
from mbml_lightning.results.runs import Method
from mbml_lightning.results.statistics import mean_interval


def learning_curves(methods: Sequence[Method], split: str) -> Figure | None:
    """Mean return on a split against updates: the mean of the seeds, thin the seeds of few methods, references."""
    figure, axes = panel("updates", "mean return")
    if not (ends := _curves(axes, methods, f"val/return_{split}")):
        return None
    label_ends(axes, ends + draw_references(axes, methods, split))
    return figure


def rewards_read(methods: Sequence[Method], metric: str) -> Figure | None:
    """Whether encoders read rewards, one of ``REWARD_METRICS``, against updates."""
    figure, axes = panel("updates", metric.replace("_", " "))
    if not (ends := _curves(axes, methods, f"val/{metric}")):
        return None
    axes.axhline(0, color=rcParams["grid.color"], lw=1, zorder=0)
    axes.axhline(1, color=rcParams["grid.color"], lw=1, zorder=0)
    label_ends(axes, ends)
    return figure


def _curves(axes: Axes, methods: Sequence[Method], metric: str) -> list[End]:
    """A metric of all methods that adapt."""
    shown = [m for m in methods if not m.is_reference and any(metric in run.metrics.curves for run in m.runs)]
    ends = []
    for method in shown:
        colour = colours(methods)[method.name]
        ends += draw_seeds(axes, method, metric, method.label, colour, marker(method.name), thin=len(shown) <= FEW)
    return ends


def losses(methods: Sequence[Method]) -> Figure | None:
    """The losses of MBML against updates: of the triplets (Eq. 9), of distilling Q (Eq. 3), and KL (Eq. 10)."""
    figure, axes = panel("updates", "loss")
    ends = []
    for method in (m for m in methods if m.name == "mbml"):
        for name, term, colour in zip(("triplet", "Q", "KL"), ("triplet", "q", "kl"), SPARE, strict=False):
            ends += draw_seeds(axes, method, f"train/{term}_loss", name, colour)
    if not ends:
        return None
    if np.isfinite(axes.dataLim.minposy):  # there is a positive value
        axes.set_yscale("log")
    label_ends(axes, ends)
    return figure


def episodes(methods: Sequence[Method]) -> Figure | None:
    """Mean return on unseen tasks by episode, with intervals of few methods: what acting teaches about the task."""
    figure, axes = panel("episode", "mean return")
    adapting = [m for m in methods if not m.is_reference and m.scores("test") is not None]
    if not adapting:
        return None
    ends = []
    for i, method in enumerate(adapting):
        returns = np.stack([e.splits["test"].returns.mean(1) for e in method.evaluations if "test" in e.splits])
        means, colour = returns.mean((0, 1)), colours(methods)[method.name]
        # Side by side, not hidden; of many methods neither.
        places = 1 + np.arange(len(means)) + 0.08 * (i - (len(adapting) - 1) / 2) * (len(adapting) <= FEW)
        reach = _reach(returns) if len(adapting) <= FEW else None
        axes.errorbar(places, means, reach, color=colour, marker=marker(method.name), lw=1.6, elinewidth=1.2, ms=4.5)
        ends.append(End(means[-1], method.label, colour))
    first = adapting[0].evaluations[0]
    axes.axvspan(first.uncounted + 0.5, first.episodes + 0.5, color=rcParams["grid.color"], alpha=0.45, lw=0)
    axes.set(xlim=(0.5, first.episodes + 0.5), xticks=range(1, first.episodes + 1))
    label_ends(axes, ends + draw_references(axes, methods, "test"))
    middle = (first.uncounted + first.episodes + 1) / 2
    axes.text(middle, 1.01, "counted", ha="center", va="bottom", transform=axes.get_xaxis_transform())
    return figure


def _reach(returns: Float[np.ndarray, "seeds tasks episodes"]) -> Float[np.ndarray, "2 episodes"]:
    """How far the interval of each episode's mean reaches down and up."""
    ends = np.array([mean_interval(returns[:, :, episode])[1:] for episode in range(returns.shape[-1])]).T
    reach: Float[np.ndarray, "2 episodes"] = np.nan_to_num(np.abs(ends - returns.mean((0, 1))))
    return reach


def per_task(methods: Sequence[Method], split: str) -> Figure | None:
    """Counted return on each task: bars of few methods, with a stroke for each reference; a table of many."""
    shown = [(method, s.mean(0)) for method in methods if (s := method.scores(split)) is not None]
    adapting = [method for method, _ in shown if not method.is_reference]
    if not adapting:
        return None
    tasks = next(e.splits[split].tasks for e in adapting[0].evaluations if split in e.splits)
    names = [task_name(task, i) for i, task in enumerate(tasks)]
    return _bars(methods, shown, names) if len(adapting) <= FEW else _heat(shown, names)


def _bars(methods: Sequence[Method], shown: Sequence[tuple[Method, Any]], tasks: Sequence[str]) -> Figure:
    bars = [(method, scores) for method, scores in shown if not method.is_reference]
    figure, axes = panel("mean return", "", height=1.2 + len(tasks) * (0.1 + 0.13 * len(bars)))
    places, thickness = np.arange(len(tasks)), 0.76 / len(bars)
    for i, (method, scores) in enumerate(bars):
        offset = (i - (len(bars) - 1) / 2) * thickness
        axes.barh(places + offset, scores, 0.9 * thickness, color=colours(methods)[method.name], label=method.label)
    for method, scores in shown:
        if method.is_reference:
            low, high, dash = places - 0.44, places + 0.44, DASHES[method.name]
            axes.vlines(scores, low, high, color=rcParams["text.color"], ls=dash, label=method.label)
    axes.set_yticks(places, tasks)
    axes.set_ylim(len(tasks) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    handles = [*axes.containers, *axes.collections]
    columns = 5 if max(len(method.label) for method, _ in shown) < 10 else 2
    figure.legend(handles=handles, loc="outside upper left", ncols=columns, columnspacing=1.4, handlelength=1.4)
    return figure


def _heat(shown: Sequence[tuple[Method, Any]], tasks: Sequence[str]) -> Figure:
    """A row a task, a column a method; a light cell is a high return among those of its row."""
    scores = np.array([of for _, of in shown]).T
    low, high = scores.min(1, keepdims=True), scores.max(1, keepdims=True)
    shades = colormaps["cividis"]((scores - low) / np.where(high > low, high - low, 1))
    figure, axes = panel("", "", height=1.5 + 0.24 * len(tasks))
    axes.imshow(shades, aspect="auto")
    for (task, column), score in np.ndenumerate(scores):
        ink = "black" if shades[task, column, :3] @ (0.2126, 0.7152, 0.0722) > 0.45 else "white"
        axes.text(column, task, f"{score:.0f}", color=ink, size=6.5, ha="center", va="center")
    axes.set_xticks(range(len(shown)), [method.label for method, _ in shown], rotation=60, ha="left", size=8)
    axes.tick_params(top=False, labeltop=True, labelbottom=False)
    axes.set_yticks(range(len(tasks)), tasks, size=8)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
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
