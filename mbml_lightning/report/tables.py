"""Tables of a report, as cells for a reader, as CSV and as Markdown."""

import csv
import io
from collections.abc import Iterable, Sequence
from math import isnan
from typing import NamedTuple

from mbml_lightning.results.comparison import REWARD_METRICS, Statistics
from mbml_lightning.results.runs import MethodRuns
from mbml_lightning.results.statistics import Estimate, interval_text

HEADER = ["Method", "Unseen tasks", "Normalised", "Train tasks", "Seeds", "Updates", "Training"]
ESTIMATES = ("iqm", "mean", "stratified_iqm", "stratified_mean", "normalised_iqm", "normalised_mean",
             "final", "best", "chosen_on_train", "difference", "probability_of_improvement")  # fmt: skip


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Write a table as CSV, numbers unrounded and nothing for None."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerows([header, *rows])
    return file.getvalue()


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Write a table as Markdown, names at the left and numbers at the right."""
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def duration(seconds: float | None) -> str:
    """Write seconds in the unit that reads best."""
    if seconds is None:
        return "-"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


class Row(NamedTuple):
    """One method in the table of a report; ``seconds`` of training are the mean over its seeds."""

    method: MethodRuns
    test: Estimate | None
    normalised: Estimate | None
    train: Estimate | None
    seeds: int
    updates: str
    seconds: float | None

    @classmethod
    def of(cls, method: MethodRuns) -> "Row":
        """Summarise the runs of a method."""
        updates = "/".join(f"{step:,}" for step in sorted({e.step for e in method.evaluations}))
        seconds = [s for run in method.runs if run.evaluation and not isnan(s := run.training_seconds)]
        mean = sum(seconds) / len(seconds) if seconds else None
        estimates = method.estimate("test"), method.normalised("test"), method.estimate("train")
        return cls(method, *estimates, len(method.evaluations), updates, mean)

    def cells(self, digits: int = 1) -> list[str]:
        """Write the row for a reader, as in ``HEADER``."""
        if not self.seeds:
            return [self.method.label, "not finished", "", "not finished", "0", "", ""]
        shown = [interval_text(estimate, digits) for estimate in (self.test, self.normalised, self.train)]
        started = len(self.method.runs)
        seeds = str(self.seeds) if self.seeds == started else f"{self.seeds} of {started}"
        return [self.method.label, *shown, seeds, self.updates, duration(self.seconds)]


def overview_csv(rows: Sequence[Row]) -> str:
    """Write the table of a report as CSV."""
    ends = [f"{name}_{end}" for name in ("test", "normalised", "train") for end in ("mean", "low", "high")]
    lines = []
    for row in rows:
        numbers = [x for estimate in (row.test, row.normalised, row.train) for x in estimate or [None] * 3]
        lines.append([row.method.name, *numbers, row.seeds, row.updates.replace(",", ""), row.seconds])
    return csv_text(["method", *ends, "seeds", "updates", "training_seconds"], lines)


def statistics_columns(first: str) -> dict[str, str]:
    """Name the columns of the table of statistics, each with the sentence that says what it holds.

    Args:
        first: Label of the first method, which the last columns compare the others with.
    """
    return {
        "IQM": "interquartile mean of the returns of all seeds and unseen tasks, a quarter left out at each end.",
        "Mean": "their mean.",
        "Norm. IQM": "IQM of the normalised scores, 0 is random and 100 SAC.",
        "Norm. mean": "their mean.",
        "Final": "mean return at the last evaluation of the training that all seeds share.",
        "Best in training": "for each seed the evaluation with the highest mean over the unseen tasks. The paper "
        "selects so; it sees the unseen tasks, and is too high by what luck adds.",
        "Chosen on train tasks": "for each seed the evaluation with the highest mean over train tasks, its score on "
        "the unseen ones.",
        "Paper's statistic": "for the first seed alone, the highest mean of the evaluations of the past 30 epochs "
        "within 600 (an epoch is 100 updates), ± its standard deviation over tasks; a dash where evaluations are "
        "further apart.",
        "Reward sensitivity": "how far the posterior moves when only the rewards of a context are swapped for "
        "another task's, relative to how far two tasks' posteriors are apart; 0 where rewards are ignored.",
        "Rewards followed": "share of contexts with swapped rewards whose posterior is nearer to the task whose "
        "rewards they have than to the task whose states and actions they have; 1: rewards decide.",
        f"{first} - it": f"by how much the mean return of {first} is higher, on the same tasks and seeds.",
        f"P({first} better)": f"probability that {first} returns more on an unseen task, over pairs of seeds, ties "
        "counted half.",
    }


def statistics_cells(row: Statistics) -> list[str]:
    """Write a method's label and its statistics for a reader, as in ``statistics_columns``."""
    of = row.estimates
    before = ("iqm", "mean", "normalised_iqm", "normalised_mean", "final", "best", "chosen_on_train")
    paper = f"{row.paper.value:.1f} ± {row.paper.spread:.1f}" if row.paper else "-"
    rewards = ["-" if value is None else f"{value:.2f}" for value in row.rewards]
    shown = [interval_text(of.get(name)) for name in before] + [paper, *rewards]
    better = interval_text(of.get("probability_of_improvement"), digits=2)
    return [row.method.label, *shown, interval_text(of.get("difference")), better]


def statistics_csv(rows: Sequence[Statistics]) -> str:
    """Write all statistics, those of the stratified bootstrap as well, as CSV."""
    ends = [f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high")]
    paper = ["paper_statistic", "paper_spread", "paper_step"]
    lines: list[list[object]] = []
    for row in rows:
        scores, nothing = row.method.scores("test"), (None, None, None)
        shape = nothing[:2] if scores is None else scores.shape
        numbers = [number for name in ESTIMATES for number in row.estimates.get(name, nothing)]
        lines.append([row.method.name, *shape, *numbers, *(row.paper or nothing), *row.rewards])
    return csv_text(["method", "seeds", "tasks", *ends, *paper, *REWARD_METRICS], lines)


def statistics_markdown(rows: Sequence[Statistics], first: str) -> str:
    """Write the statistics as Markdown, and below them what the columns mean."""
    meaning = statistics_columns(first)
    table = markdown(["Method", *meaning], map(statistics_cells, rows))
    return table + "\n" + "".join(f"- {name}: {sentence}\n" for name, sentence in meaning.items())
