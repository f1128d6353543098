"""``mbml report``: compare the methods of one experiment."""

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from mbml_lightning.report.figures import FIGURES, paper_figure


def report_command(words: Sequence[str]) -> None:
    """Write the page of an experiment, or draw one figure of the paper; ``words`` comes after ``mbml report``."""
    numbers = ", ".join(map(str, FIGURES))
    parser = ArgumentParser("mbml report", description="Compare the methods of one experiment on one HTML page.")
    parser.add_argument("runs", nargs="+", type=Path, help="folders in which runs are searched for")
    parser.add_argument("--output", type=Path, help="the page; report.html in the first folder if not given")
    parser.add_argument("--figure", type=int, help=f"draw only this figure of the paper, one of {numbers}")
    options = parser.parse_args(words)
    if options.figure is None:
        from mbml_lightning.report.report import report  # after parsing: a second of SciPy and Matplotlib

        report(options.runs, options.output)
    else:
        paper_figure(options.runs, options.figure, options.output)
