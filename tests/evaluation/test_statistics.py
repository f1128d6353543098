import numpy as np
import pytest
import scipy.stats
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from mbml_lightning.evaluation import statistics
from mbml_lightning.evaluation.statistics import counted_return, mean_interval


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
    estimate = mean_interval(scores)
    student = scipy.stats.ttest_1samp(scores[0], 0).confidence_interval()
    assert estimate.mean == pytest.approx(scores.mean())
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
        confidence_level=1 - 2 * statistics._expanded_tail(10, 0.95),
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    estimate = mean_interval(scores)
    assert estimate[1:] == pytest.approx(reference, abs=0.05)
    assert estimate.high - estimate.low > 0.5


def test_interval_is_not_symmetric_for_skewed_scores():
    scores = np.array([[0.0] * 9 + [10.0]])
    mean, low, high = mean_interval(scores)
    assert (mean, low) == (1.0, 0.0) and high > 2


@pytest.mark.parametrize(("seeds", "seed_effect"), [(1, 0.0), (5, 0.6)])
def test_interval_holds_the_truth_in_95_of_100_experiments(monkeypatch, seeds, seed_effect):
    monkeypatch.setattr(statistics, "RESAMPLES", 2000)
    rng, held = np.random.default_rng(7), 0
    for _ in range(400):
        tasks = rng.normal(50, 10, size=(1, 10))
        trainings = rng.normal(0, 10 * seed_effect, size=(seeds, 1))
        estimate = mean_interval(tasks + trainings + rng.normal(0, 5, size=(seeds, 10)))
        held += estimate.low <= 50 <= estimate.high
    assert 0.92 <= held / 400 <= 0.98


@pytest.mark.parametrize("shape", [(1, 10), (3, 10), (3, 1), (1, 2)])
def test_equal_scores_leave_no_doubt(shape):
    assert mean_interval(np.full(shape, 0.1)) == pytest.approx((0.1, 0.1, 0.1))


def test_one_number_has_no_interval():
    mean, low, high = mean_interval(np.array([[7.0]]))
    assert mean == 7 and np.isnan(low) and np.isnan(high)


def test_same_scores_same_interval():
    scores = np.random.default_rng(0).normal(size=(2, 6))
    assert mean_interval(scores) == mean_interval(scores)
