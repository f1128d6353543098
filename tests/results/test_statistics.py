from itertools import product

import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mbml_lightning.results import statistics
from mbml_lightning.results.statistics import counted_return, improvement, interval, iqm, mean


@given(arrays(np.float64, array_shapes(min_dims=3, max_dims=3, max_side=5), elements=st.floats(-1e3, 1e3)), st.data())
def test_counted_return_is_the_mean_of_the_last_episodes(returns, data):
    uncounted = data.draw(st.integers(0, returns.shape[2] - 1))
    scores = counted_return(returns, uncounted)
    for task in range(returns.shape[0]):
        for trial in range(returns.shape[1]):
            total, count = 0.0, 0
            for episode in range(returns.shape[2]):
                if episode + 1 > uncounted:
                    total, count = total + returns[task, trial, episode], count + 1
            assert scores[task, trial] == pytest.approx(total / count, abs=1e-9)


@pytest.mark.parametrize("uncounted", [-1, 5, 6])
def test_some_episode_must_count(uncounted):
    with pytest.raises(ValueError, match="uncounted"):
        counted_return(np.zeros((2, 3, 5)), uncounted)


def test_interval_of_normal_scores_is_students():
    scores = np.random.default_rng(3).normal(100, 20, size=(1, 12))
    estimate = interval(scores)
    student = scipy.stats.ttest_1samp(scores[0], 0).confidence_interval()
    assert estimate.value == pytest.approx(scores.mean())
    assert estimate.low == pytest.approx(student.low, abs=2)
    assert estimate.high == pytest.approx(student.high, abs=2)


@pytest.mark.parametrize("axis", [0, 1])
def test_resamples_seeds_and_tasks(axis):
    """Where only one of the two varies, the interval is the ordinary bootstrap of that one."""
    varying = np.random.default_rng(0).exponential(size=10)
    scores = np.broadcast_to(np.expand_dims(varying, axis), (10, 10))
    reference = scipy.stats.bootstrap(
        (varying,),
        np.mean,
        confidence_level=1 - 2 * statistics._expanded_tail(10),
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    estimate = interval(scores)
    assert estimate[1:] == pytest.approx(reference, abs=0.05)
    assert estimate.high - estimate.low > 0.5


def test_interval_is_not_symmetric_for_skewed_scores():
    scores = np.array([[0.0] * 9 + [10.0]])
    mean, low, high = interval(scores)
    assert (mean, low) == (1.0, 0.0) and high > 2


@pytest.mark.parametrize(("seeds", "seed_effect"), [(1, 0.0), (5, 0.6)])
def test_interval_holds_the_truth_in_95_of_100_experiments(monkeypatch, seeds, seed_effect):
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)
    rng, held = np.random.default_rng(7), 0
    for _ in range(400):
        tasks = rng.normal(50, 10, size=(1, 10))
        trainings = rng.normal(0, 10 * seed_effect, size=(seeds, 1))
        estimate = interval(tasks + trainings + rng.normal(0, 5, size=(seeds, 10)))
        held += estimate.low <= 50 <= estimate.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (3, 1), (1, 2)])
def test_equal_scores_leave_no_doubt(shape):
    assert interval(np.full(shape, 0.1)) == pytest.approx((0.1, 0.1, 0.1))


def test_one_number_has_no_interval():
    mean, low, high = interval(np.array([[7.0]]))
    assert mean == 7 and np.isnan(low) and np.isnan(high)


def test_same_scores_same_interval():
    scores = np.random.default_rng(0).normal(size=(2, 6))
    assert interval(scores) == interval(scores)


def quartile_mean(values):
    values = sorted(values)
    cut = len(values) // 4
    kept = values[cut : len(values) - cut]
    return sum(kept) / len(kept)


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 4), (2, 7)])
def test_iqm_leaves_out_a_quarter_at_each_end(shape):
    scores = np.random.default_rng(0).exponential(size=(3, *shape))
    assert iqm(scores) == pytest.approx([quartile_mean(block.ravel()) for block in scores])
    assert interval(scores[0], iqm).value == pytest.approx(quartile_mean(scores[0].ravel()))


@pytest.mark.parametrize("statistic", [mean, iqm])
@pytest.mark.parametrize("stratified", [False, True])
def test_resamples_equal_a_loop(statistic, stratified):
    """All resamples of two seeds and three tasks, each as likely as the others, instead of random ones."""
    scores = np.random.default_rng(1).exponential(10.0, size=(2, 3))
    resampled = []
    for tasks in product(range(3), repeat=3):
        for luck in product(product(range(2), repeat=2), repeat=3 if stratified else 1):
            of_task = luck if stratified else luck * 3
            drawn = [[scores[of_task[place][seed], task] for place, task in enumerate(tasks)] for seed in range(2)]
            flat = [x for row in drawn for x in row]
            resampled.append(quartile_mean(flat) if statistic is iqm else sum(flat) / len(flat))
    tail = 0.025 if stratified else statistics._expanded_tail(3)
    _, low, high = interval(scores, statistic, stratified)
    # There are few different resamples: an end may be the next one.
    for end, sign in ((low, 1), (-high, -1)):
        nearest = np.quantile(sign * np.array(resampled), [0.8 * tail, 1.25 * tail], method="inverted_cdf")
        assert nearest[0] - 1e-9 <= end <= nearest[1] + 1e-9


def test_a_seeds_luck_on_all_tasks_is_understated_by_the_stratified_bootstrap():
    scores = np.random.default_rng(0).normal(0, 10, size=(8, 1)) + np.zeros(12)
    crossed, stratified = interval(scores, mean), interval(scores, mean, stratified=True)
    assert crossed.high - crossed.low > 2 * (stratified.high - stratified.low)


def test_improvement_is_the_share_of_pairs_won():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, size=(3, 5)).astype(float), rng.integers(0, 3, size=(4, 5)).astype(float)
    by_task = []
    for task in range(5):
        points = [1.0 if a > b else 0.5 if a == b else 0.0 for a in x[:, task] for b in y[:, task]]
        by_task.append(sum(points) / len(points))
    estimate = improvement(x, y)
    assert estimate.value == pytest.approx(sum(by_task) / 5) and estimate.value > 0.55
    assert estimate.low < estimate.value < estimate.high <= 1
    assert improvement(y, x) == pytest.approx((1 - estimate.value, 1 - estimate.high, 1 - estimate.low), abs=0.02)


def test_improvement_resamples_the_same_tasks_for_both():
    """X wins by a little on every task; tasks differ by a lot, which must not matter."""
    tasks = np.arange(10) * 100.0
    assert improvement(tasks + np.array([[1.0], [2.0]]), tasks[None]) == pytest.approx((1, 1, 1))


def test_improvement_resamples_seeds_of_both():
    """One task: all draws of two seeds each, as likely as the others."""
    x, y = np.array([[0.0], [2.0]]), np.array([[1.0], [3.0]])
    shares = []
    for of_x, of_y in product(product(range(2), repeat=2), repeat=2):
        shares.append(np.mean([x[i, 0] > y[j, 0] for i in of_x for j in of_y]))
    tail = statistics._expanded_tail(2)
    ends = np.quantile(shares, [tail, 1 - tail], method="inverted_cdf")
    assert improvement(x, y) == pytest.approx((0.25, *ends))
