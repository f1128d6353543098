"""``mbml report --figure``: figures of the paper, each with the numbers that it shows."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from matplotlib import rc_context
from matplotlib.figure import Figure

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import write_text
from mbml_lightning.report import comparison_figure, relabelling_figure
from mbml_lightning.report.style import LIGHT, theme
from mbml_lightning.report.tables import compare, statistics_csv, statistics_markdown
from mbml_lightning.results.methods import LABELS, REFERENCES
from mbml_lightning.results.runs import Method, read_experiment
from mbml_lightning.results.scores import task_curves

RELABELLING = 7


class Shown(NamedTuple):
    """What a figure compares.

    Attributes:
        methods: The methods that belong to it, of which two at least must be there.
        optional: Methods that are shown where they are there.
        mbml: What MBML is called among them.
    """

    methods: tuple[str, ...]
    optional: tuple[str, ...] = ()
    mbml: str = LABELS["mbml"]


FIGURES = {
    4: Shown(("mbml", "contextual_bcq", "pearl"), REFERENCES),
    6: Shown(("mbml", "no_relabelling", "no_triplet", "neither"), ("ground_truth",)),
    11: Shown(("margin_0", "mbml", "margin_4", "margin_8"), mbml="Margin 2 (MBML)"),
    12: Shown(("mbml", "no_ensemble"), mbml="Ensemble (MBML)"),
}
NUMBERS = sorted([*FIGURES, RELABELLING])


def paper_figure(runs: list[Path], number: int, output: Path | None = None) -> None:
    """Draw a figure of the paper from one experiment.

    Writes the picture as PNG and SVG, its numbers as CSV and Markdown, and its curves as ``<name>-curves.csv``.

    Args:
        runs: Folders in which run folders are searched for.
        number: Number of the figure in the paper.
        output: The files' name, with any ending; ``figures/fig<number>`` in the first folder if not given.

    Raises:
        ResultsError: There is no such figure, or there is too little to draw it from.
    """
    if number not in NUMBERS:
        raise ResultsError(f"--figure {number}: choose one of {', '.join(map(str, NUMBERS))}")
    output = output or runs[0] / "figures" / f"fig{number}.png"
    problems = _relabelling(runs, output) if number == RELABELLING else _comparison(runs, number, output)
    print(*(f"warning: {problem}" for problem in problems), output.with_suffix(".png"), sep="\n")


def _comparison(runs: list[Path], number: int, output: Path) -> list[str]:
    shown, experiment = FIGURES[number], read_experiment(runs)
    there = {method.name: method for method in experiment.methods if _has_scores(method)}
    missing = [LABELS[name] for name in shown.methods if name not in there]
    said = f"figure {number}: {' and '.join(missing)} not evaluated on unseen tasks; train first"
    if len(shown.methods) - len(missing) < 2:
        raise ResultsError(said)
    methods = [there[name] for name in (*shown.methods, *shown.optional) if name in there]
    labels = {method.name: shown.mbml if method.name == "mbml" else method.label for method in methods}
    _write_picture(output, lambda: comparison_figure.draw(methods, labels))
    first = next((method for method in methods if method.name == "mbml"), methods[0])
    statistics = compare(methods, first)
    write_text(output.with_suffix(".csv"), statistics_csv(statistics))
    write_text(output.with_suffix(".md"), statistics_markdown(statistics, first.label))
    write_text(_curves_of(output), comparison_figure.curves_csv(methods))
    return [*experiment.problems, *([said] if missing else [])]


def _has_scores(method: Method) -> bool:
    """Whether there is something of it to draw."""
    trained = any(task_curves(run.metrics, "test") for run in method.runs)
    return bool(method.estimate("test") or trained or (method.is_reference and method.estimate("train")))


def _relabelling(runs: list[Path], output: Path) -> list[str]:
    ensemble, problems = relabelling_figure.read_ensemble(runs)
    _write_picture(output, lambda: relabelling_figure.draw(ensemble))
    write_text(output.with_suffix(".csv"), relabelling_figure.last_csv(ensemble))
    write_text(output.with_suffix(".md"), relabelling_figure.last_markdown(ensemble))
    write_text(_curves_of(output), relabelling_figure.curves_csv(ensemble))
    return problems


def _curves_of(output: Path) -> Path:
    return output.with_name(f"{output.stem}-curves.csv")


def _write_picture(output: Path, draw: Callable[[], Figure]) -> None:
    """PNG and SVG, the same bytes for the same numbers."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(theme(*LIGHT) | {"svg.hashsalt": "mbml"}):
        figure = draw()
        figure.savefig(output.with_suffix(".png"), dpi=200)
        figure.savefig(output.with_suffix(".svg"), metadata={"Date": None})
