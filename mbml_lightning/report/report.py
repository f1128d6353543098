"""One experiment as a table and as a page with pictures, for ``mbml report``."""

from collections.abc import Sequence
from math import isnan
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mbml_lightning.files.writing import write_text
from mbml_lightning.report.drawing import FEW
from mbml_lightning.report.page import page
from mbml_lightning.report.tables import HEADER, Row, markdown, overview_csv, statistics_csv, statistics_markdown
from mbml_lightning.results.comparison import compare, difference
from mbml_lightning.results.runs import Experiment, read_experiment
from mbml_lightning.results.statistics import interval_text


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
    rows = [Row.of(method) for method in experiment.methods]
    cells = [row.cells() for row in rows]
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output.with_suffix(".csv"), overview_csv(rows))
    write_text(output.with_suffix(".md"), markdown(HEADER, cells))
    first = experiment.methods[0]
    statistics = compare(experiment.methods, first)
    write_text(output.with_name("statistics.csv"), statistics_csv(statistics))
    write_text(output.with_name("statistics.md"), statistics_markdown(statistics, first.label))
    write_text(output, page(experiment, headline(experiment), cells, statistics))
    _print(rows, experiment.problems, output)


def _print(rows: Sequence[Row], problems: Sequence[str], output: Path) -> None:
    """Print the table, the normalised scores below it: a terminal has 80 columns.

    Beside long names, large returns stand without decimals.
    """
    values = [abs(estimate.value) for row in rows for estimate in (row.test, row.train) if estimate]
    digits = 0 if max(len(row.method.label) for row in rows) > 8 and max(values, default=0) >= 100 else 1
    normalised = HEADER.index("Normalised")
    scores = ", ".join(f"{row.method.label} {row.normalised.value:z.0f}" for row in rows if row.normalised)
    below = f"\nunseen tasks, normalised (0 is random, 100 SAC): {scores}" if scores else ""
    caption = f"mean return \\[95% interval]{below}"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, caption=caption)
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


def headline(experiment: Experiment) -> str:
    """Tell the result in one sentence."""
    estimates = {m.label: e for m in experiment.methods if (e := m.estimate("test"))}
    evaluation = experiment.evaluation
    if evaluation is None or not estimates:
        return "No method has been evaluated on unseen tasks yet."
    (label, best), *others = estimates.items()
    tasks = next(s.shape[1] for method in experiment.methods if (s := method.scores("test")) is not None)
    ends = "" if isnan(best.low) else f" (95% interval {best.low:z.1f} to {best.high:z.1f})"
    text = f"On {tasks} unseen tasks of {evaluation.distribution}, {label} returns {best.value:z.1f}{ends}"
    text += "".join(f", {other} {estimate.value:z.1f}" for other, estimate in others[:FEW])
    text += f"; {len(others) - FEW} more stand in the table" if len(others) > FEW else ""
    stacks = [method for method in experiment.methods if method.name in ("bcq", "sac")]
    own = [f"{method.label} {e.value:z.1f}" for method in stacks if (e := method.estimate("train"))]
    text += f"; each on its own train task, {' and '.join(own)}." if own else "."
    first, *rest = [method for method in experiment.methods if not method.is_reference] or experiment.methods
    found = [(other.label, more) for other in rest[: FEW - 1] if (more := difference(first, other))]
    so = (f" On the same tasks and seeds it returns {interval_text(more)} more than {name}." for name, more in found)
    return text + "".join(so)
