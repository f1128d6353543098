"""What returns say about a method: the score of a trial, and the mean with its interval."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64
from scipy.stats import norm, t

RESAMPLES = 10_000


class Estimate(NamedTuple):
    """A mean and the ends of its 95% interval, which are NaN where one number is all there is."""

    mean: float
    low: float
    high: float


def counted_return(
    returns: Float[np.ndarray, "tasks trials episodes"], uncounted: int
) -> Float64[np.ndarray, "tasks trials"]:
    """Score of every trial: its mean return, the first ``uncounted`` episodes left out (Algorithm 5).

    Raises:
        ValueError: No episode would count.
    """
    if not 0 <= uncounted < returns.shape[-1]:
        raise ValueError(f"uncounted is {uncounted}, but there are {returns.shape[-1]} episodes")
    counted: Float64[np.ndarray, "tasks trials"] = returns[..., uncounted:].mean(-1, dtype=np.float64)
    return counted


def mean_interval(scores: Float[np.ndarray, "seeds tasks"], confidence: float = 0.95) -> Estimate:
    """Mean score and its bootstrap interval, the same for the same scores.

    Each resample draws tasks with replacement and, independently, seeds with replacement, and takes the mean of
    the scores where the drawn seeds and tasks meet. With one seed the interval tells what the mean could have
    been on other tasks of the distribution, with these weights; with several also after other trainings. The
    part of the seeds is understated by the factor 1 - 1/seeds in variance: two or three seeds tell little.

    The ends are percentiles, moved outwards as Student's quantiles are from the normal's (expanded percentiles:
    Hesterberg, "What Teachers Should Know About the Bootstrap", 2015). On normal scores the interval holds the
    truth in 95% of cases for eight tasks or more, in 77% for three.
    """
    seeds, tasks = scores.shape
    mean = float(scores.mean())
    if scores.size == 1:
        return Estimate(mean, np.nan, np.nan)
    rng = np.random.default_rng(0)
    drawn_seeds = rng.integers(seeds, size=(RESAMPLES, seeds, 1))
    drawn_tasks = rng.integers(tasks, size=(RESAMPLES, 1, tasks))
    means = scores[drawn_seeds, drawn_tasks].mean((1, 2))
    tail = _expanded_tail(max(seeds, tasks), confidence)
    low, high = np.quantile(means, [tail, 1 - tail])
    # Equal scores may differ from their mean by a rounding error; the mean is never outside.
    return Estimate(mean, min(float(low), mean), max(float(high), mean))


def _expanded_tail(count: int, confidence: float) -> float:
    """Share of resampled means outside each end, such that the interval of a mean of normals is Student's."""
    quantile = t.ppf((1 - confidence) / 2, count - 1) * np.sqrt(count / (count - 1))
    return float(norm.cdf(quantile))
