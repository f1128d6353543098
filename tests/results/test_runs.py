"""What of an experiment is read from its folders, and what is said of it."""

import pytest
from run_folders import LEVELS, write_run

from mbml_lightning.files.evaluation import Split
from mbml_lightning.results.runs import read_experiment, read_run


def test_runs_that_are_unfinished_or_unlike_the_other_seeds_are_named(tmp_path):
    config = {"trainer": {"max_steps": 4000}, "evaluation": {"trials": 2}, "model": {"lr": 1.0, "seed": 0}}
    write_run(tmp_path, "mbml", 0, made_of={"config": config})
    write_run(tmp_path, "mbml", 1, made_of={"config": config | {"model": {"lr": 1.0, "seed": 1}}})
    assert read_experiment([tmp_path]).problems == []
    write_run(tmp_path, "mbml", 2, made_of={"config": config | {"trainer": {"max_steps": 6000}}})
    write_run(tmp_path, "mbml", 3, made_of={"config": config | {"model": {"lr": 2.0, "seed": 3}}})
    write_run(tmp_path, "mbml", 4, made_of={"config": config | {"evaluation": {"trials": 8}}})
    one = {
        name: Split(s.tasks, s.returns[:, :1])
        for name, s in read_run(tmp_path / "mbml/seed-0", []).evaluation.splits.items()
    }
    write_run(tmp_path, "mbml", 5, made_of={"config": config | {"evaluation": {"trials": 1}}}, trials=1, splits=one)
    problems = read_experiment([tmp_path]).problems
    for seed, said in {
        2: "evaluated after 4000 of 6000 updates",
        3: "has another configuration (model.lr is 1.0 there and 2.0 here); seed-0 and this are averaged all the same",
        4: "evaluated in 2 of 8 trials a task",
        5: "has 1 trials a task, 2 in seed-0",
    }.items():
        assert [p for p in problems if f"mbml/seed-{seed}: " in p and said in p], (seed, problems)
    assert not [p for p in problems if "seed-1:" in p]


@pytest.mark.parametrize("method", ["random", "best_teacher"])
def test_what_is_only_evaluated_is_not_unfinished(tmp_path, monkeypatch, method):
    monkeypatch.setitem(LEVELS, method, 60.0)
    write_run(tmp_path, method, step=0, made_of={"config": {"trainer": {"max_steps": 4000}}})
    assert read_experiment([tmp_path]).problems == []
