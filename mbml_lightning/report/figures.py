"""Figures of the paper for ``mbml report --figure``: one card each, drawn with the numbers that it shows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from mbml_lightning.errors import ResultsError
from mbml_lightning.results.methods import METHODS, Method

if TYPE_CHECKING:  # matplotlib takes a second, and the workflow reads the cards only
    from matplotlib.figure import Figure as Picture


@dataclass(frozen=True)
class Figure:
    """One figure of the paper; the cards of methods say in which figures they stand.

    Args:
        number: Its number in the paper.
        title: Description in a few words.
        module: Module that draws it, with a function ``make(figure, runs) -> Drawn``.
        mbml: Name of MBML among the other methods of the figure.
        by_label: Order the methods by their names here, not as in a report.
        physics: Distributions that it is for, as of a `Method`.
    """

    number: int
    title: str
    module: str = "mbml_lightning.report.comparison_figure"
    mbml: str = METHODS["mbml"].label
    by_label: bool = False
    physics: Literal["all", "shared", "varied"] = "all"

    @property
    def methods(self) -> list[Method]:
        """Methods that stand in it."""
        methods = [method for method in METHODS.values() if self.number in method.figures]
        return sorted(methods, key=self.label) if self.by_label else methods

    def label(self, method: Method) -> str:
        """Name a method among the others of the figure."""
        return self.mbml if method.name == "mbml" else method.label


class Drawn(NamedTuple):
    """A figure and its numbers.

    Attributes:
        draw: Draws the picture.
        csv: Numbers.
        markdown: Numbers for a reader.
        curves_csv: Every point of the curves.
        problems: One line for everything that could not be read, or is missing.
    """

    draw: "Callable[[], Picture]"
    csv: str
    markdown: str
    curves_csv: str
    problems: list[str]


FIGURES = {
    figure.number: figure
    for figure in (
        Figure(4, "MBML and the baselines on unseen tasks"),
        Figure(6, "what relabelling and the triplet add"),
        Figure(7, "errors of predicted rewards", "mbml_lightning.report.relabelling_figure", physics="shared"),
        Figure(11, "margins of the triplet", mbml="Margin 2 (MBML)", by_label=True),
        Figure(12, "an ensemble and one network", mbml="Ensemble (MBML)"),
    )
}
"""All figures by number."""


def paper_figure(runs: Sequence[Path], number: int, output: Path | None = None) -> None:
    """Draw a figure of the paper from one experiment.

    Writes the picture as PNG and SVG, its numbers as CSV and Markdown, and its curves as ``<name>-curves.csv``.

    Args:
        runs: Folders in which run folders are searched for.
        number: Number of the figure in the paper.
        output: The files' name, with any ending; ``figures/fig<number>`` in the first folder if not given.

    Raises:
        ResultsError: There is no such figure, or there is too little to draw it from.
    """
    from matplotlib import rc_context

    from mbml_lightning.files.writing import write_text
    from mbml_lightning.report.style import LIGHT, theme

    if number not in FIGURES:
        raise ResultsError(f"--figure {number}: choose one of {', '.join(map(str, FIGURES))}")
    output = output or runs[0] / "figures" / f"fig{number}.png"
    drawn: Drawn = import_module(FIGURES[number].module).make(FIGURES[number], runs)
    output.parent.mkdir(parents=True, exist_ok=True)
    with rc_context(theme(*LIGHT) | {"svg.hashsalt": "mbml"}):  # the same bytes for the same numbers
        picture = drawn.draw()
        picture.savefig(output.with_suffix(".png"), dpi=200)
        picture.savefig(output.with_suffix(".svg"), metadata={"Date": None})
    write_text(output.with_suffix(".csv"), drawn.csv)
    write_text(output.with_suffix(".md"), drawn.markdown)
    write_text(output.with_name(f"{output.stem}-curves.csv"), drawn.curves_csv)
    print(*(f"warning: {problem}" for problem in drawn.problems), output.with_suffix(".png"), sep="\n")
