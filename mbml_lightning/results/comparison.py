"""All statistics of a method on unseen tasks, and how the first method compares with it."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mbml_lightning.results.runs import MethodRuns
from mbml_lightning.results.scores import Trailing, chosen, learning, paper_statistic
from mbml_lightning.results.statistics import Estimate, improvement, interval, iqm, mean

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
    """Compute all statistics of a method that has scores."""
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
    paper = None
    if not method.is_reference and (curves := learning(method)):
        found["final"] = interval(curves.test[:, -1])
        found["best"] = interval(chosen(curves.test, curves.test))
        found["chosen_on_train"] = None if curves.train is None else interval(chosen(curves.test, curves.train))
        paper = paper_statistic(method.runs)
    estimates = {name: estimate for name, estimate in found.items() if estimate}
    rewards = [[curve.values[-1] for curve in method.curves(f"val/{name}")] for name in REWARD_METRICS]
    return Statistics(method, estimates, paper, [float(np.mean(last)) if last else None for last in rewards])


def difference(first: MethodRuns, other: MethodRuns) -> Estimate | None:
    """Estimate how much more the first method returns, seed by seed and task by task; None if these are others."""
    mine, theirs = first.scores("test"), other.scores("test")
    seeds = [[e.seed for e in method.evaluations if "test" in e.splits] for method in (first, other)]
    if mine is None or theirs is None or seeds[0] != seeds[1] or mine.shape != theirs.shape:
        return None
    return interval(mine - theirs)
