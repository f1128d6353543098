"""All statistics of a method on unseen tasks, and how the first method compares with it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64

from mbml_lightning.results.runs import MethodRuns
from mbml_lightning.results.scores import Learning, Trailing, chosen, learning, paper_statistic
from mbml_lightning.results.statistics import Estimate, improvement, interval, iqm, mean, mean_interval

REWARD_METRICS = ("reward_sensitivity", "rewards_followed")
"""Logged under ``val/`` by methods with an encoder: how much it reads rewards."""


class Statistics(NamedTuple):
    """Statistics of one method on unseen tasks; ``statistics_columns`` in the report says what each one means.

    Attributes:
        method: The method.
        estimates: Estimates by name, where they could be computed.
        paper: The paper's own statistic.
        rewards: The last values of ``REWARD_METRICS``, means over seeds.
    """

    method: MethodRuns
    estimates: dict[str, Estimate]
    paper: Trailing | None
    rewards: list[float | None]


def compare(methods: Sequence[MethodRuns], first: MethodRuns) -> list[Statistics]:
    """Compute the statistics of every method that was evaluated on unseen tasks, and compare ``first`` with it."""
    return [_statistics(method, first) for method in methods if method.scores("test") is not None]


def _statistics(method: MethodRuns, first: MethodRuns) -> Statistics:
    scores, mine = method.scores("test"), first.scores("test")
    assert scores is not None, "the caller leaves out methods without scores"
    found: dict[str, Estimate | None] = {}
    for name, statistic in (("iqm", iqm), ("mean", mean)):
        found[name] = interval(scores, statistic)
        found[f"stratified_{name}"] = interval(scores, statistic, stratified=True)
        found[f"normalised_{name}"] = method.normalised("test", statistic)
    if method is not first and mine is not None and mine.shape[1] == scores.shape[1]:
        found["difference"] = difference(first, method)
        found["probability_of_improvement"] = improvement(mine, scores)
    curves = None if method.is_reference else learning(method)
    found |= {name: mean_interval(of) for name, of in _selected(curves).items()}
    paper = paper_statistic(method.runs) if curves else None
    estimates = {name: estimate for name, estimate in found.items() if estimate}
    return Statistics(method, estimates, paper, [last_value(method, f"val/{name}") for name in REWARD_METRICS])


def _selected(curves: Learning | None) -> dict[str, Float64[np.ndarray, "seeds tasks"]]:
    """Select the scores of the evaluations that each rule chooses."""
    if curves is None:
        return {}
    scores = {"final": curves.test[:, -1], "best": chosen(curves.test, curves.test)}
    return scores | ({} if curves.train is None else {"chosen_on_train": chosen(curves.test, curves.train)})


def difference(first: MethodRuns, other: MethodRuns) -> Estimate | None:
    """Estimate how much more the first method returns, seed by seed and task by task; None if these are others."""
    mine, theirs = first.scores("test"), other.scores("test")
    seeds = [[e.seed for e in method.evaluations if "test" in e.splits] for method in (first, other)]
    if mine is None or theirs is None or seeds[0] != seeds[1] or mine.shape != theirs.shape:
        return None
    return mean_interval(mine - theirs)


def last_value(method: MethodRuns, metric: str) -> float | None:
    """Average the last value of a metric over seeds; None where it was not logged."""
    curves = method.curves(metric)
    return float(np.mean([curve.values[-1] for curve in curves])) if curves else None
