import argparse
import csv

import numpy as np
import pytest
import torch

from benchmarks import (
    collection,
    environments,
    learners,
    matrix_products,
    measuring,
    methods,
    sac_and_bcq,
    step_time,
    trainer_overhead,
)
from benchmarks.agreement import check_agreement
from benchmarks.references import REFERENCES
from mbml_lightning import envs
from mbml_lightning.cli.main import main
from mbml_lightning.files.evaluation import Evaluation

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def in_seconds(monkeypatch):
    monkeypatch.setattr(matrix_products, "MATRIX", 64)
    monkeypatch.setattr(measuring, "SHORTEST_SAMPLE", 0.0)


def learner(phase):
    return learners.make(phase, "UmazeGoalM", 3, learners.load_scale("tiny"), CPU)


@pytest.fixture
def double():
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("phase", REFERENCES)
def test_ours_and_the_plain_reference_make_the_same_updates(phase, double):
    ours = learner(phase)
    reference = REFERENCES[phase](ours.algorithm)
    check_agreement(ours.algorithm, reference, ours.batches * 2, tolerance=1e-6)


def test_a_target_network_that_follows_faster_is_noticed(double):
    ours = learner("sac")
    reference = REFERENCES["sac"](ours.algorithm)
    reference.tasks[1].tau *= 1.1
    with pytest.raises(AssertionError, match="q_target"):
        check_agreement(ours.algorithm, reference, ours.batches, tolerance=0.02)


def test_another_weight_of_a_loss_is_noticed(double):
    ours = learner("mbml")
    reference = REFERENCES["mbml"](ours.algorithm)
    ours.algorithm.hooks["triplet"].weight = 1.1
    with pytest.raises(AssertionError, match="triplet_loss"):
        check_agreement(ours.algorithm, reference, ours.batches, tolerance=0.02)


def test_the_threshold_keeps_about_the_share_it_should():
    ours = learner("mbml")
    kept = ours.algorithm.update(ours.batches[0])["kept_fraction"]
    assert 0.4 < kept < 1


@pytest.mark.parametrize("shape", [(1, 8, 16, 32), (3, 8, 16, 32)])
def test_flops_of_a_layer(shape):
    nets, rows, inputs, outputs = shape
    x, w = torch.randn(nets, rows, inputs), torch.randn(nets, inputs, outputs)
    assert measuring.gflop(lambda: x @ w) == pytest.approx(2e-9 * nets * rows * inputs * outputs)


def test_speed_up_pairs_the_rounds():
    assert measuring.speed_up([2.0, 9.0, 3.0], [1.0, 3.0, 1.0]) == 3
    assert measuring.spread([1.0, 2.0, 4.0]) == 1.5


def test_variants_take_turns():
    order = []
    samples = measuring.alternate({name: lambda name=name: order.append(name) for name in "ab"}, 2, CPU)
    assert order[-4:] == ["a", "b", "a", "b"]
    assert {name: len(seconds) for name, seconds in samples.items()} == {"a": 2, "b": 2}


def test_a_setting_ends_with_its_block():
    before = torch.get_float32_matmul_precision()
    for setting in measuring.SETTINGS:
        with setting.active(CPU):
            assert torch.get_float32_matmul_precision() == setting.precision
            assert torch.is_autocast_enabled("cpu") == setting.autocast
        assert torch.get_float32_matmul_precision() == before


def test_errors_of_products():
    errors = matrix_products.product_errors(CPU)
    assert errors["torch's default"] < 1e-6 < 1e-3 < errors["bf16 autocast"] < 1e-2


def columns(path):
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_step_time(tmp_path, capsys):
    words = ["--scale", "tiny", "--num-tasks", "2", "--rounds", "2", "--threads", "1", "--output", str(tmp_path)]
    step_time.main(words)
    updates = columns(tmp_path / "step_time-updates.csv")
    assert len(updates) == 4 * 2 * 3
    assert all(float(row["times faster"]) == 1 for row in updates[::6])
    assert all(float(row["ms"]) * float(row["updates/s"]) == pytest.approx(1000) for row in updates)
    assert [row["phase"] for row in columns(tmp_path / "step_time-drawing.csv")] == ["sac", "bcq", "ensemble", "mbml"]
    assert (tmp_path / "step_time.md").read_text() == capsys.readouterr().out


def test_methods(tmp_path):
    words = ["--scales", "tiny", "--num-tasks", "2", "--rounds", "1", "--threads", "1", "--output", str(tmp_path)]
    methods.main(words)
    rows = columns(tmp_path / "methods-updates.csv")
    assert [row["method"] for row in rows] == list(learners.STUDENTS)
    assert float(rows[0]["of MBML's"]) == 1 and all(float(row["ms"]) > 0 for row in rows)


def test_environments(tmp_path):
    words = ["--distributions", "HumanoidDirM", "WalkerParam", "--copies", "3", "--threads", "1", "--steps", "30"]
    environments.main([*words, "--rounds", "1", "--output", str(tmp_path)])
    rows = columns(tmp_path / "environments-stepping.csv")
    assert [row["distribution"] for row in rows] == ["HumanoidDirM"] * 5 + ["WalkerParam"] * 5
    assert [row["stepping"] for row in rows[:3]] == [
        "batch, no Python between",
        "batch, a call a step",
        "TaskVectorEnv",
    ]
    assert [row["aim"] for row in rows[:5]] == ["", "", ">= 90 %", "", ""]
    assert float(rows[0]["% of no Python"]) == 100 and float(rows[3]["times a loop"]) == 1


@pytest.fixture
def walkers():
    """Three walkers under different physics, who fall."""
    family = envs.distribution("WalkerParam")
    actions = np.random.default_rng(1).uniform(-1, 1, (50, 3, family.action_dim))
    tasks = family.tasks("train")[:3]
    env = envs.TaskVectorEnv(family, tasks, 1, "Disabled")
    pieces = environments.record(env, actions)
    assert len(pieces.lengths) > 6  # of 32 and 18 steps, if none fell
    return pieces, family.simulation(tasks[pieces.copies], 2), actions


def test_recorded_pieces_are_all_steps_of_all_copies(walkers):
    pieces, _, actions = walkers
    taken = [
        (copy, t)
        for copy, first, n in zip(pieces.copies, pieces.first, pieces.lengths, strict=True)
        for t in range(first, first + n)
    ]
    assert sorted(taken) == [(copy, t) for copy in range(3) for t in range(len(actions))]


def test_replay_without_python_goes_the_recorded_way_and_no_other(walkers):
    pieces, simulation, actions = walkers
    np.testing.assert_array_equal(environments.replay_pieces(simulation, pieces, actions, 4)(), pieces.ends)
    for controls, substeps in ((-actions, 4), (actions, 3)):
        other = environments.replay_pieces(simulation, pieces, controls, substeps)()
        assert np.abs(other - pieces.ends).max() > 0.1


@pytest.mark.parametrize(("name", "steps"), [("UmazeGoalM", 300), ("AntDir", 30), ("HalfCheetahVel", 30)])
def test_all_ways_of_stepping_go_the_same_way(name, steps):
    environments.ways(name, 3, 2, steps)


def test_a_way_that_goes_elsewhere_is_noticed(monkeypatch):
    monkeypatch.setattr(environments, "MAX_SPEED", 0.5)
    with pytest.raises(AssertionError, match="one in a loop does not end where"):
        environments.ways("UmazeGoalM", 3, 1, 30)


def test_trainer_overhead(tmp_path):
    words = ["--phases", "sac", "ensemble", "--scale", "tiny", "--blocks", "2", "--updates", "4", "--rounds", "1"]
    trainer_overhead.main([*words, "--output", str(tmp_path)])
    rows = columns(tmp_path / "trainer_overhead-overhead.csv")
    assert [row["phase"] for row in rows] == ["sac", "sac", "ensemble", "ensemble"]
    assert all(float(row[name]) > 0 for row in rows for name in ("bare us", "fit us", "times bare"))


def test_returns_of_sac_and_bcq_stand_beside_each_other(experiment, tmp_path, capsys):
    sac_and_bcq.main([str(experiment), "--output", str(tmp_path)])
    rows, tasks = (
        list(csv.DictReader((tmp_path / f"sac_and_bcq-{name}.csv").read_text().splitlines()))
        for name in ("returns", "tasks")
    )
    assert [(row["distribution"], row["tasks"], row["steps a task"]) for row in rows] == [("PointGoal", "5", "200")]
    evaluations = {phase: Evaluation.load(experiment / phase / "seed-0/evaluation.json") for phase in ("sac", "bcq")}
    for phase, evaluation in evaluations.items():
        returns = evaluation.splits["train"].returns[..., evaluation.uncounted :].mean((1, 2))
        assert [float(task[phase]) for task in tasks] == pytest.approx(returns, abs=0.051)
        assert float(rows[0][phase.upper()].split()[0]) == pytest.approx(returns.mean(), abs=0.051)
    sac, bcq, random = (float(rows[0][name].split()[0]) for name in ("SAC", "BCQ", "random"))
    assert float(rows[0]["BCQ, % of SAC"]) == pytest.approx(100 * (bcq - random) / (sac - random), rel=0.3, abs=1)
    assert "BCQ, % of SAC" in capsys.readouterr().out and (tmp_path / "curves.png").stat().st_size > 1000
    with pytest.raises(SystemExit, match="no experiment with finished runs"):
        sac_and_bcq.main([str(tmp_path)])


@pytest.mark.parametrize("words", [[], ["--scale.sac_copies=1", "--scale.standardise=false"]])
def test_returns_of_a_collection_are_read_against_minutes(words, monkeypatch):
    few = ["--scale.collection_steps=400", "--scale.interactions=400", "--scale.warmup=200"]
    monkeypatch.setattr(collection, "on_one_core", lambda command: main([*command[3:], *few]))
    curve = collection.ours(argparse.Namespace(task="point_goal", tasks=2, minutes=1), *words)
    minutes, returns = zip(*curve, strict=True)
    assert 0 <= minutes[0] <= minutes[-1] < 1 and all(-40 < value < 0 for value in returns)


def test_a_minute_has_the_mean_of_its_episodes():
    curve = [(0.1, 2.0), (0.9, 4.0), (1.0, 8.0)]
    assert [collection.mean_in(curve, minute) for minute in (1, 2)] == [3.0, 8.0]
    assert np.isnan(collection.mean_in(curve, 3))


def test_a_scale_has_the_budgets_of_the_task():
    assert learners.load_scale("laptop").distribution == "UmazeGoalM"
    scale = learners.load_scale("laptop", "half_cheetah_vel")
    assert (scale.distribution, scale.collection_steps) == ("HalfCheetahVel+torso_position=False", 60_000)
