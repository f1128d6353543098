"""Paths through the plane of a policy that does not know its task yet, episode by episode."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from mbml_lightning.report.curves import task_name
from mbml_lightning.report.drawing import FEW, in_lines
from mbml_lightning.report.style import colours
from mbml_lightning.results.runs import MethodRuns, Run

EPISODE_COLOURS = ("#d59f00", "#14a098", "#b5479d")
COLUMNS = 4
Corner = Float[np.ndarray, "2"]


def paths(methods: Sequence[MethodRuns], walls: Float[np.ndarray, "W 4"] | None) -> Figure | None:
    """Draw the paths of the first, the first counted and the last episode on a few unseen tasks.

    Args:
        methods: All methods; a row for each of the first few that are no reference and kept trajectories (of the first
            such seed).
        walls: Corners (x0, y0, x1, y1), in the coordinates of the observations, the first two of which are (x, y).
    """
    kept = {m: [run for run in m.runs if "test" in run.trajectories] for m in methods if not m.is_reference}
    rows = [(method, runs[0]) for method, runs in kept.items() if runs][:FEW]
    if not rows:
        return None
    first = rows[0][1].evaluation
    assert first, "trajectories are read with their evaluation only"
    goals, episodes = np.array(first.splits["test"].tasks), sorted({0, first.uncounted, first.episodes - 1})
    across = np.lexsort((goals[:, 1], goals[:, 0]))  # a few tasks from end to end of the plane
    chosen = across[np.linspace(0, len(goals) - 1, min(COLUMNS, len(goals))).round().astype(int)].tolist()
    # corners that hold all paths and goals, and a little of the walls around
    points = np.concatenate([goals, *(run.trajectories["test"][..., :2].reshape(-1, 2) for _, run in rows)])
    low, high = np.nanmin(points, axis=0) - 0.35, np.nanmax(points, axis=0) + 0.35
    figure, panels = _panels(len(rows), len(chosen), low, high)
    for (method, run), line in zip(rows, panels, strict=True):
        line[0].set_ylabel(in_lines(method.label), color=colours(methods)[method.name], weight="bold", size=12)
        for task, axes in zip(chosen, line, strict=True):
            _draw(axes, run, task, episodes, walls)
    for task, axes in zip(chosen, panels[0], strict=True):
        axes.set_title(f"goal {task_name(goals[task].tolist(), task)}", size=10)
    _legend(figure, episodes, len(chosen))
    return figure


def _draw(axes: Axes, run: Run, task: int, episodes: Sequence[int], walls: Float[np.ndarray, "W 4"] | None) -> None:
    """Draw the paths of one method on one task, with the returns below."""
    assert run.evaluation, "trajectories are read with their evaluation only"
    split, path = run.evaluation.splits["test"], run.trajectories["test"][task, :, :, :2]
    for x0, y0, x1, y1 in [] if walls is None else walls:
        axes.add_patch(Rectangle((x0, y0), x1 - x0, y1 - y0, color=rcParams["grid.color"], lw=1))
    for place, (episode, colour) in enumerate(zip(episodes, EPISODE_COLOURS, strict=False)):
        axes.plot(*path[episode].T, color=colour, lw=1.7, alpha=0.95, solid_joinstyle="round")
        score = split.returns[task, 0, episode]
        text = f"{score:z.0f}" if abs(score) >= 100 else f"{score:z.1f}"
        style: dict[str, Any] = {"ha": "center", "va": "top", "weight": "bold", "transform": axes.transAxes}
        axes.text((place + 0.5) / len(episodes), -0.02, text, color=colour, **style)
    axes.plot(*path[0, 0], "o", color=rcParams["text.color"], ms=5, zorder=4)
    axes.plot(*split.tasks[task], "*", color=rcParams["text.color"], mec=rcParams["axes.facecolor"], ms=15, zorder=5)


def _panels(rows: int, columns: int, low: Corner, high: Corner) -> tuple[Figure, np.ndarray]:
    """Make empty panels with the same limits."""
    width, height = 2.3, 2.3 * (high - low)[1] / (high - low)[0] + 0.35
    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False)
    for axes in panels.flat:
        axes.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[], aspect="equal")
        axes.spines[:].set_visible(True)
    return figure, panels


def _legend(figure: Figure, episodes: Sequence[int], columns: int) -> None:
    """Name colours and signs below the panels, in one line where they are wide enough for it."""
    lines = [Line2D([], [], color=colour, lw=2.5) for _, colour in zip(episodes, EPISODE_COLOURS, strict=False)]
    ink = rcParams["text.color"]
    lines += [Line2D([], [], color=ink, marker=m, ms=s, ls="") for m, s in (("o", 5), ("*", 12))]
    names = [f"episode {episode + 1}" + (" (from the prior)" if episode == 0 else "") for episode in episodes]
    across = len(lines) if columns > 2 else columns
    figure.set_figheight(figure.get_figheight() + 0.2 * ((len(lines) - 1) // across))
    figure.legend(lines, [*names, "start", "goal"], loc="outside lower center", ncols=across)
