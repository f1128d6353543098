"""``mbml report``: one experiment as a table and as one page with pictures."""

import csv
import io
from collections.abc import Sequence
from math import isnan
from pathlib import Path
from typing import NamedTuple

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mbml_lightning.files.writing import write_text
from mbml_lightning.report.drawing import FEW
from mbml_lightning.report.page import duration, page
from mbml_lightning.report.tables import compare, difference, markdown, statistics_csv, statistics_markdown
from mbml_lightning.results.runs import Experiment, Method, read_experiment
from mbml_lightning.results.statistics import Estimate, interval_text

HEADER = ["Method", "Unseen tasks", "Normalised", "Train tasks", "Seeds", "Updates", "Training"]


def report(runs: list[Path], output: Path | None = None) -> None:
    """Compare the methods of one experiment: print a table and write a page, the table beside it as CSV and Markdown.

    All statistics go to ``statistics.csv`` and ``statistics.md``.

    Args:
        runs: Folders in which run folders (``<method>/seed-<n>``) are searched for.
        output: The page; ``report.html`` in the first folder if not given.

    Raises:
        ResultsError: There are no runs, or runs of several experiments.
    """
    experiment = read_experiment(runs)
    output = output or runs[0] / "report.html"
    rows = [_row(method) for method in experiment.methods]
    cells = [row.cells() for row in rows]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output.with_suffix(".csv"), _csv(rows))
    write_text(output.with_suffix(".md"), markdown([HEADER, ["---"] + ["---:"] * 6, *cells]))
    first = experiment.methods[0]
    statistics = compare(experiment.methods, first)
    write_text(output.with_name("statistics.csv"), statistics_csv(statistics))
    write_text(output.with_name("statistics.md"), statistics_markdown(statistics, first.label))
    write_text(output, page(experiment, headline(experiment), HEADER, cells, statistics))
    _print(rows, experiment.problems, output)


class Row(NamedTuple):
    """One method in the table; ``seconds`` of training are the mean over its seeds."""

    method: Method
    test: Estimate | None
    normalised: Estimate | None
    train: Estimate | None
    seeds: int
    updates: str
    seconds: float | None

    def cells(self, digits: int = 1) -> list[str]:
        """The row for a reader, as in ``HEADER``."""
        if not self.seeds:
            return [self.method.label, "not finished", "", "not finished", "0", "", ""]
        shown = [interval_text(estimate, digits) for estimate in (self.test, self.normalised, self.train)]
        started = len(self.method.runs)
        seeds = str(self.seeds) if self.seeds == started else f"{self.seeds} of {started}"
        return [self.method.label, *shown, seeds, self.updates, duration(self.seconds)]


def _row(method: Method) -> Row:
    updates = "/".join(f"{step:,}" for step in sorted({e.step for e in method.evaluations}))
    seconds = [s for run in method.runs if run.evaluation and not isnan(s := run.training_seconds)]
    mean = sum(seconds) / len(seconds) if seconds else None
    estimates = method.estimate("test"), method.normalised("test"), method.estimate("train")
    return Row(method, *estimates, len(method.evaluations), updates, mean)


def _csv(rows: Sequence[Row]) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = [f"{name}_{end}" for name in ("test", "normalised", "train") for end in ("mean", "low", "high")]
    writer.writerow(["method", *ends, "seeds", "updates", "training_seconds"])
    for row in rows:
        numbers = [x for estimate in (row.test, row.normalised, row.train) for x in estimate or [""] * 3]
        seconds = "" if row.seconds is None else row.seconds
        writer.writerow([row.method.name, *numbers, row.seeds, row.updates.replace(",", ""), seconds])
    return file.getvalue()


def _print(rows: Sequence[Row], problems: Sequence[str], output: Path) -> None:
    """The table without the normalised scores, which stand below it: a terminal has 80 columns.

    Beside long names, large returns stand without decimals.
    """
    values = [abs(estimate.value) for row in rows for estimate in (row.test, row.train) if estimate]
    digits = 0 if max(len(row.method.label) for row in rows) > 8 and max(values, default=0) >= 100 else 1
    normalised = HEADER.index("Normalised")
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=_caption(rows))
    for i, name in enumerate(HEADER):
        if i != normalised:
            table.add_column(name, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell) for i, cell in enumerate(row.cells(digits)) if i != normalised))
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(Text(f"warning: {problem}", style="yellow"), soft_wrap=True)
    console.print(Text(str(output)), soft_wrap=True)


def _caption(rows: Sequence[Row]) -> str:
    scores = ", ".join(f"{row.method.label} {row.normalised.value:.0f}" for row in rows if row.normalised)
    text = "mean return \\[95% interval]"
    return f"{text}\nunseen tasks, normalised (0 is random, 100 SAC): {scores}" if scores else text


def headline(experiment: Experiment) -> str:
    """The result in one sentence."""
    estimates = {m.label: e for m in experiment.methods if (e := m.estimate("test"))}
    evaluation = experiment.evaluation
    if evaluation is None or not estimates:
        return "No method has been evaluated on unseen tasks yet."
    (label, best), *others = estimates.items()
    tasks = next(s.shape[1] for method in experiment.methods if (s := method.scores("test")) is not None)
    ends = "" if isnan(best.low) else f" (95% interval {best.low:.1f} to {best.high:.1f})"
    text = f"On {tasks} unseen tasks of {evaluation.distribution}, {label} returns {best.value:.1f}{ends}"
    text += "".join(f", {other} {estimate.value:.1f}" for other, estimate in others[:FEW])
    text += f"; {len(others) - FEW} more stand in the table" if len(others) > FEW else ""
    stacks = [method for method in experiment.methods if method.name in ("bcq", "sac")]
    own = [f"{method.label} {e.value:.1f}" for method in stacks if (e := method.estimate("train"))]
    text += f"; each on its own train task, {' and '.join(own)}." if own else "."
    return text + "".join(f" {sentence}" for sentence in differences(experiment))


def differences(experiment: Experiment) -> list[str]:
    """How much more the first method returns than the next few that adapt, on the same unseen tasks and seeds."""
    first, *others = [method for method in experiment.methods if not method.is_reference] or experiment.methods
    found = [(other, more) for other in others[: FEW - 1] if (more := difference(first, other))]
    return [f"On the same tasks and seeds it returns {interval_text(more)} more than {o.label}." for o, more in found]
