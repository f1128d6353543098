import numpy as np
import pytest

from mbml_lightning.files.log import Curve, Metrics
from mbml_lightning.results.runs import MethodRuns, Run
from mbml_lightning.results.scores import chosen, learning, paper_statistic, task_curves, trailing_best


def run_of(tmp_path, seed, curves):
    """``curves``: by split, the steps and the returns (evaluations, tasks)."""
    by_name = {
        f"val/return_{split}_task_{i}": Curve(np.array(steps), np.array(column, dtype=float))
        for split, (steps, returns) in curves.items()
        for i, column in enumerate(np.transpose(returns))
    }
    return Run(tmp_path / "mbml" / f"seed-{seed}", {}, Metrics(by_name), {})


def test_learning_has_the_updates_that_all_runs_share(tmp_path):
    first = {"test": ([1, 2, 3], [[1, 2], [3, 4], [5, 6]]), "train": ([1, 2, 3], [[7], [8], [9]])}
    second = {"test": ([2, 3, 4], [[30, 40], [50, 60], [70, 80]]), "train": ([2, 3, 4], [[80], [90], [91]])}
    curves = learning(MethodRuns("mbml", [run_of(tmp_path, 0, first), run_of(tmp_path, 1, second)]))
    assert curves.steps.tolist() == [2, 3]
    assert curves.test.tolist() == [[[3, 4], [5, 6]], [[30, 40], [50, 60]]]
    assert curves.train.tolist() == [[[8], [9]], [[80], [90]]]


def test_runs_without_train_tasks_or_without_any_curve(tmp_path):
    run = run_of(tmp_path, 0, {"test": ([1, 2], [[1.0], [np.nan]])})
    assert task_curves(run.metrics, "test").steps.tolist() == [1]  # what is not finite does not count
    assert learning(MethodRuns("mbml", [run])).train is None
    assert learning(MethodRuns("mbml", [run_of(tmp_path, 0, {})])) is None


def test_evaluations_are_chosen_seed_by_seed():
    rng = np.random.default_rng(0)
    test, train = rng.normal(size=(4, 6, 3)), rng.normal(size=(4, 6, 2))
    for by in (test, train):
        for seed in range(4):
            best, place = -np.inf, None
            for evaluation in range(6):
                mean = sum(by[seed, evaluation]) / by.shape[2]
                if mean > best:
                    best, place = mean, evaluation
            np.testing.assert_array_equal(chosen(test, by)[seed], test[seed, place])


@pytest.mark.parametrize(("window", "limit"), [(3000, 60_000), (300, 900), (250, 10_000), (100, 500)])
def test_trailing_best_equals_a_loop(window, limit):
    rng = np.random.default_rng(1)
    steps = np.arange(0, 2000, 100)
    returns = rng.normal(size=(20, 4))
    best = (-np.inf, None, None)
    for step in steps:
        rows = [row for at, row in zip(steps, returns, strict=True) if step - window <= at < step]
        if not rows or step > limit:
            continue
        tasks = [sum(row[task] for row in rows) / len(rows) for task in range(4)]
        mean = sum(tasks) / 4
        if mean > best[0]:
            spread = (sum((task - mean) ** 2 for task in tasks) / 4) ** 0.5
            best = (mean, spread, step)
    assert trailing_best(steps, returns, window, limit) == pytest.approx(best)


def test_the_papers_statistic_is_of_the_lowest_seed_within_600_epochs(tmp_path):
    steps = [59_000, 60_000, 61_000, 62_000]
    runs = [
        run_of(tmp_path, seed, {"test": (steps, np.array([[1.0], [2.0], [50.0], [50.0]]) + seed)}) for seed in (10, 2)
    ]
    assert paper_statistic(runs) == (3.0, 0.0, 60_000)  # seed 2: of 60,000 only what was before


def test_evaluations_too_far_apart_have_no_trailing_mean():
    assert trailing_best(np.array([5000, 10_000]), np.ones((2, 3))) is None
