"""Figure 7 of the paper: how far predicted rewards of other tasks' transitions are from the true ones."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from mbml_lightning.errors import ResultsError
from mbml_lightning.report import figures
from mbml_lightning.report.drawing import draw_seeds, name_axes, name_lines
from mbml_lightning.report.style import SPARE
from mbml_lightning.report.tables import csv_text, markdown
from mbml_lightning.results.runs import MethodRuns, read_run

ERRORS = {
    "val/relabelling_error": "Ensemble, all rows",
    "val/relabelling_error_kept": "Ensemble, rows it trusts",
    "val/relabelling_error_single": "One network, all rows",
}
KEPT = {"val/kept_fraction": "Rows it trusts"}


def make(figure: figures.Figure, paths: Sequence[Path]) -> figures.Drawn:
    """Collect the errors that the reward ensembles logged.

    Raises:
        ResultsError: There are none, or fewer than two of the errors were logged.
    """
    (method,) = figure.methods
    files = sorted({file.resolve() for path in paths for file in path.rglob("metrics.jsonl")})
    problems: list[str] = []
    runs = [read_run(file.parent, problems) for file in files if file.parent.parent.name == method.name]
    ensemble = MethodRuns(method.name, runs)
    missing = [name for name in ERRORS if not ensemble.curves(name)]
    said = f"{paths[0]}: figure {figure.number}: {' and '.join(missing)} not logged by {method.name}; train it first"
    if len(ERRORS) - len(missing) < 2:
        raise ResultsError(said)
    problems += [said] if missing else []
    last, shown = [], []
    for metric, name in (ERRORS | KEPT).items():
        if curves := ensemble.curves(metric):
            seeds, step = len(curves), max(int(curve.steps[-1]) for curve in curves)
            value = float(np.mean([curve.values[-1] for curve in curves]))
            last.append((metric, seeds, step, value))
            shown.append([name, str(seeds), f"{step:,}", f"{value:.4f}"])
    return figures.Drawn(
        lambda: draw(ensemble),
        csv_text(["metric", "seeds", "updates", "value"], last),
        markdown(["Mean absolute error", "Seeds", "Updates", "Last value"], shown),
        _curves_csv(ensemble),
        problems,
    )


def draw(ensemble: MethodRuns) -> Figure:
    """Draw mean absolute errors, and the fraction of rows that the ensembles trust, against updates."""
    figure = Figure(figsize=(8.4, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for axes, metrics in ((left, ERRORS), (right, KEPT)):
        for (metric, label), colour in zip(metrics.items(), SPARE, strict=False):
            draw_seeds(axes, ensemble, metric, label, colour)
    name_axes(left, "updates", "mean absolute error", "rewards of other tasks' transitions")
    left.set_ylim(bottom=0)
    name_lines(left)
    name_axes(right, "updates", "fraction of rows", "trusted rows")
    right.set_ylim(0, 1)
    return figure


def _curves_csv(ensemble: MethodRuns) -> str:
    """Write every logged value, a line each."""
    lines = [
        (metric, run.seed, step, value)
        for metric in ERRORS | KEPT
        for run in ensemble.runs
        if (curve := run.metrics.curves.get(metric))
        for step, value in zip(curve.steps, curve.values, strict=True)
    ]
    return csv_text(["metric", "seed", "updates", "value"], lines)
