"""Nightly: the whole pipeline at tiny scale on every distribution that has a task file."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from commands import PHASES, ROOT, command, phases

from mbml_lightning.cli.main import main
from mbml_lightning.envs import DISTRIBUTIONS
from mbml_lightning.files.evaluation import Evaluation

TASKS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf/task").glob("*.yaml"))}
FEW = ["--evaluation.episodes=2", "--evaluation.uncounted=1", "--evaluation.trials=1", "--scale.evaluate_every=20"]
FEW_TASKS = ["--evaluation.unseen_tasks=2", "--evaluation.splits=[test]"]
OFFLINE = ["offline-own", "offline-other", "random-first"]


def test_every_distribution_has_a_task_file():
    assert sorted(spec["distribution"] for spec in TASKS.values()) == sorted(DISTRIBUTIONS)


ALL_METHODS = ("half_cheetah_vel", "walker_param")
"""With tasks that share their physics, and with tasks that do not; the others run what their pipeline needs."""
HORIZON = 50


def run(phase: str, task: str, experiment: Path, *more: str) -> Path:
    """Run a phase and return its folder."""
    main(command(phase, experiment, "--task", str(ROOT / f"conf/task/{task}.yaml"), *FEW, *more))
    return experiment / phase / "seed-0"


@pytest.mark.nightly
@pytest.mark.parametrize("task", [task for task in TASKS if task != "point_goal"])
def test_pipeline(task, tmp_path, monkeypatch):
    spec, family = TASKS[task], DISTRIBUTIONS[TASKS[task]["distribution"]]
    monkeypatch.setattr(type(family), "horizon", HORIZON)  # what takes the time is to check every step's shapes
    whole = {"sac": ["train"], "bcq": ["train"], "mbml": ["train", "test"], "random": ["train", "test"]}
    whole |= {"reward_ensemble": [], "next_state_ensemble": []}
    usable = phases(spec)
    for phase in usable if task in ALL_METHODS else [phase for phase in usable if phase in PHASES]:
        splits = whole.get(phase)
        words = FEW_TASKS if splits is None else [f"--evaluation.splits=[{','.join(splits)}]"]
        folder = run(phase, task, tmp_path, *words)
        if splits == []:
            continue
        evaluation = Evaluation.load(folder / "evaluation.json")
        assert evaluation.distribution == family.name and evaluation.horizon == HORIZON
        for split, result in evaluation.splits.items():
            count = len(family.tasks(split)) if splits else 2
            assert result.returns.shape == (count, 1, 2) and np.isfinite(result.returns).all()
    logged = [json.loads(line) for line in (tmp_path / "mbml/seed-0/metrics.jsonl").read_text().splitlines()]
    assert 0 <= logged[0]["train/kept_fraction"] <= 1
    differ_in_rewards = "next_state_threshold" not in spec
    assert any("val/reward_sensitivity" in line for line in logged) == differ_in_rewards
    weights = torch.load(tmp_path / "mbml/seed-0/last.ckpt", weights_only=True)["state_dict"]
    width = 2 * family.observation_dim + family.action_dim + 1
    assert weights["encoder.mlp.weights.0"].shape[0] == width
    assert_protocols(task, tmp_path)
    main(["report", str(tmp_path)])
    main(["report", str(tmp_path), "--figure=6"])


def assert_protocols(task: str, experiment: Path) -> None:
    """Every protocol on the first unseen tasks, of ``ood`` too where the distribution has it."""
    family = DISTRIBUTIONS[TASKS[task]["distribution"]]
    splits = [split for split in ("test", "ood") if split in family.splits]
    for split in splits:
        run(f"sac_{split}", task, experiment)
    folder, task_file = experiment / "mbml/seed-0", ["--task", str(ROOT / f"conf/task/{task}.yaml")]
    words = ["validate", "-c", str(folder / "config.yaml"), *task_file, "--ckpt_path", str(folder / "last.ckpt")]
    few = ["--evaluation.unseen_tasks=2", f"--evaluation.splits=[{','.join(splits)}]"]
    main([*words, *few, f"--evaluation.protocols=[{','.join(OFFLINE)}]"])
    for protocol in OFFLINE:
        evaluation = Evaluation.load(folder / f"evaluation-{protocol}.json")
        assert evaluation.protocol == protocol and set(evaluation.splits) == set(splits)
        assert all(np.isfinite(result.returns).all() for result in evaluation.splits.values())
