"""All statistics of all methods: the wide table of a report."""

import csv
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mbml_lightning.evaluation.contexts import PROTOCOLS
from mbml_lightning.results.runs import Method
from mbml_lightning.results.scores import Learning, Trailing, chosen, learning, paper_statistic
from mbml_lightning.results.statistics import Estimate, improvement, interval, interval_text, iqm, mean, mean_interval

REWARD_METRICS = ("reward_sensitivity", "rewards_followed")
"""Logged under ``val/``: whether the encoder reads rewards."""
ESTIMATES = ("iqm", "mean", "stratified_iqm", "stratified_mean", "normalised_iqm", "normalised_mean",
             "final", "best", "chosen_on_train", "difference", "probability_of_improvement")  # fmt: skip


class Statistics(NamedTuple):
    """What is known of one method on unseen tasks; ``COLUMNS`` says what each field means.

    Attributes:
        method: The method.
        estimates: By the names in ``ESTIMATES``, where they could be computed.
        paper: The paper's own statistic.
        rewards: The last values of ``REWARD_METRICS``, means over seeds.
    """

    method: Method
    estimates: dict[str, Estimate]
    paper: Trailing | None
    rewards: list[float | None]


def columns(first: str) -> dict[str, str]:
    """Names of the table's columns and the sentence that says what each holds.

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


def compare(methods: Sequence[Method], first: Method) -> list[Statistics]:
    """The statistics of every method that was evaluated on unseen tasks, and how ``first`` compares with it."""
    return [_statistics(method, first) for method in methods if method.scores("test") is not None]


def cells(row: Statistics) -> list[str]:
    """A method's label and the row for a reader, as in ``columns``."""
    of = row.estimates
    before = ("iqm", "mean", "normalised_iqm", "normalised_mean", "final", "best", "chosen_on_train")
    paper = f"{row.paper.value:.1f} ± {row.paper.spread:.1f}" if row.paper else "-"
    rewards = ["-" if value is None else f"{value:.2f}" for value in row.rewards]
    shown = [interval_text(of.get(name)) for name in before] + [paper, *rewards]
    better = interval_text(of.get("probability_of_improvement"), digits=2)
    return [row.method.label, *shown, interval_text(of.get("difference")), better]


def protocols_of(methods: Sequence[Method]) -> dict[str, str]:
    """Names and sentences of the context protocols, those of the package first, then others that were evaluated."""
    known = {protocol.name: protocol.sentence for protocol in PROTOCOLS}
    found = {name for method in methods for run in method.runs for name in run.protocols}
    return known | dict.fromkeys(sorted(found - known.keys()), "a protocol that this package does not know.")


def protocol_rows(methods: Sequence[Method], split: str) -> list[list[str]]:
    """Mean return and interval of every method that adapts, under every protocol; none without the split."""
    shown, names = [method for method in methods if not method.is_reference], protocols_of(methods)
    table = [[m.label, *(interval_text(m.estimate(split, protocol=name)) for name in names)] for m in shown]
    return [row for row in table if set(row[1:]) != {"-"}]


def statistics_csv(rows: Sequence[Statistics]) -> str:
    """All numbers, unrounded; the intervals of the stratified bootstrap as well."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    ends = [f"{name}{end}" for name in ESTIMATES for end in ("", "_low", "_high")]
    paper = ["paper_statistic", "paper_spread", "paper_step"]
    writer.writerow(["method", "seeds", "tasks", *ends, *paper, *REWARD_METRICS])
    for row in rows:
        scores = row.method.scores("test")
        shape = ("", "") if scores is None else scores.shape
        numbers = [number for name in ESTIMATES for number in row.estimates.get(name, ("", "", ""))]
        rewards = ["" if value is None else value for value in row.rewards]
        writer.writerow([row.method.name, *shape, *numbers, *(row.paper or ("", "", "")), *rewards])
    return file.getvalue()


def statistics_markdown(rows: Sequence[Statistics], first: str) -> str:
    """The table for a reader, and below it what its columns mean."""
    meaning = columns(first)
    table = markdown([["Method", *meaning], ["---"] + ["---:"] * len(meaning), *map(cells, rows)])
    return table + "\n" + "".join(f"- {name}: {sentence}\n" for name, sentence in meaning.items())


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def difference(first: Method, other: Method) -> Estimate | None:
    """By how much the first method returns more, seed by seed and task by task; None if seeds or tasks are others."""
    mine, theirs = first.scores("test"), other.scores("test")
    seeds = [[e.seed for e in method.evaluations if "test" in e.splits] for method in (first, other)]
    if mine is None or theirs is None or seeds[0] != seeds[1] or mine.shape != theirs.shape:
        return None
    return mean_interval(mine - theirs)


def _statistics(method: Method, first: Method) -> Statistics:
    scores, mine = method.scores("test"), first.scores("test")
    assert scores is not None, "the caller leaves out methods without scores"
    found = {name: interval(scores, of) for name, of in (("iqm", iqm), ("mean", mean))}
    found |= {f"stratified_{name}": interval(scores, of, True) for name, of in (("iqm", iqm), ("mean", mean))}
    optional = {f"normalised_{name}": method.normalised("test", of) for name, of in (("iqm", iqm), ("mean", mean))}
    if method is not first and mine is not None and mine.shape[1] == scores.shape[1]:
        optional |= {"difference": difference(first, method)}
        optional |= {"probability_of_improvement": improvement(mine, scores)}
    curves = None if method.is_reference else learning(method)
    found |= {name: mean_interval(of) for name, of in _selected(curves).items()}
    found |= {name: estimate for name, estimate in optional.items() if estimate}
    paper = None if curves is None else paper_statistic(method.runs)
    return Statistics(method, found, paper, [last_value(method, f"val/{name}") for name in REWARD_METRICS])


def _selected(curves: Learning | None) -> dict[str, Float64[np.ndarray, "seeds tasks"]]:
    """Scores of the evaluations that the rules select."""
    if curves is None:
        return {}
    scores = {"final": curves.test[:, -1], "best": chosen(curves.test, curves.test)}
    return scores | ({} if curves.train is None else {"chosen_on_train": chosen(curves.test, curves.train)})


def last_value(method: Method, metric: str) -> float | None:
    """A metric at the end of the training, mean over seeds."""
    curves = [run.metrics.curves[metric] for run in method.runs if metric in run.metrics.curves]
    return float(np.mean([curve.values[-1] for curve in curves])) if curves else None
