"""Figure 7 of the paper: how far predicted rewards of other tasks' transitions are from the true ones."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mbml_lightning.errors import ResultsError
from mbml_lightning.report.drawing import End, draw_seeds, label_ends, thousands
from mbml_lightning.report.style import SPARE
from mbml_lightning.report.tables import markdown
from mbml_lightning.results.runs import Method, read_run

ENSEMBLE = "reward_ensemble"
ERRORS = {
    "val/relabelling_error": "Ensemble, all rows",
    "val/relabelling_error_kept": "Ensemble, rows it trusts",
    "val/relabelling_error_single": "One network, all rows",
}
KEPT = {"val/kept_fraction": "Rows it trusts"}


def read_ensemble(paths: Sequence[Path]) -> tuple[Method, list[str]]:
    """The runs of the reward ensembles, and a line for everything that could not be read.

    Raises:
        ResultsError: There are none, or they logged fewer than two of the errors.
    """
    files = sorted({file.resolve() for path in paths for file in path.rglob("metrics.jsonl")})
    problems: list[str] = []
    runs = [read_run(file.parent, problems) for file in files if file.parent.parent.name == ENSEMBLE]
    missing = [name for name in ERRORS if not any(name in run.metrics.curves for run in runs)]
    said = f"{paths[0]}: figure 7: {' and '.join(missing)} not logged by {ENSEMBLE}; train it first"
    if len(ERRORS) - len(missing) < 2:
        raise ResultsError(said)
    return Method(ENSEMBLE, runs), [*problems, *([said] if missing else [])]


def draw(ensemble: Method) -> Figure:
    """Mean absolute errors, and the fraction of rows that the ensembles trust, against updates."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    _draw(left, ensemble, ERRORS)
    left.set(xlabel="updates", ylabel="mean absolute error", title="rewards of other tasks' transitions")
    _draw(right, ensemble, KEPT)
    right.set(xlabel="updates", ylabel="fraction of rows", title="trusted rows", ylim=(0, 1))
    return figure


def _draw(axes: Axes, ensemble: Method, metrics: dict[str, str]) -> None:
    ends: list[End] = []
    for (metric, label), colour in zip(metrics.items(), SPARE, strict=False):
        ends += draw_seeds(axes, ensemble, metric, label, colour)
    axes.grid(axis="y")
    thousands(axes)
    if len(metrics) > 1:
        axes.set_ylim(bottom=0)
        label_ends(axes, ends)


def _last(ensemble: Method) -> list[tuple[str, int, int, float]]:
    """Metric, seeds, updates of the last value and its mean over seeds."""
    rows = []
    for metric in ERRORS | KEPT:
        curves = [run.metrics.curves[metric] for run in ensemble.runs if metric in run.metrics.curves]
        if curves:
            last = float(np.mean([curve.values[-1] for curve in curves]))
            rows.append((metric, len(curves), max(int(curve.steps[-1]) for curve in curves), last))
    return rows


def last_csv(ensemble: Method) -> str:
    """The last values."""
    return _csv(["metric", "seeds", "updates", "value"], _last(ensemble))


def last_markdown(ensemble: Method) -> str:
    """The last values for a reader."""
    names = ERRORS | KEPT
    lines = [[names[metric], str(seeds), f"{step:,}", f"{value:.4f}"] for metric, seeds, step, value in _last(ensemble)]
    return markdown(
        [["Mean absolute error", "Seeds", "Updates", "Last value"], ["---", "---:", "---:", "---:"], *lines]
    )


def curves_csv(ensemble: Method) -> str:
    """Every logged value, a line each."""
    lines = [
        (metric, run.seed, step, value)
        for metric in ERRORS | KEPT
        for run in ensemble.runs
        if (curve := run.metrics.curves.get(metric))
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    return _csv(["metric", "seed", "updates", "value"], lines)


def _csv(header: Sequence[str], lines: Sequence[Sequence[object]]) -> str:
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *lines])
    return file.getvalue()
