"""Nightly: the whole pipeline at tiny scale on every distribution that has a task file."""

import json

import numpy as np
import pytest
import torch
import yaml
from commands import PHASES, ROOT, command

from mbml_lightning.cli import main
from mbml_lightning.envs import DISTRIBUTIONS
from mbml_lightning.evaluation.results import Evaluation

TASKS = {path.stem: yaml.safe_load(path.read_text()) for path in sorted((ROOT / "conf/task").glob("*.yaml"))}
FEW = ["--evaluation.episodes=2", "--evaluation.uncounted=1", "--evaluation.trials=1", "--scale.evaluate_every=20"]


def test_every_distribution_has_a_task_file():
    assert sorted(spec["distribution"] for spec in TASKS.values()) == sorted(DISTRIBUTIONS)


@pytest.mark.nightly
@pytest.mark.parametrize("task", [task for task in TASKS if task != "point_goal"])
def test_pipeline(task, tmp_path, monkeypatch):
    spec, family = TASKS[task], DISTRIBUTIONS[TASKS[task]["distribution"]]
    phases = [phase for phase in PHASES if phase != "next_state_ensemble" or "next_state_threshold" in spec]
    for phase in phases:
        more = FEW if phase not in ("sac", "bcq") else [*FEW, "--evaluation.splits=[train]"]
        main(command(phase, tmp_path, "--task", str(ROOT / f"conf/task/{task}.yaml"), *more))
    for phase in phases:
        folder = tmp_path / phase / "seed-0"
        if phase.endswith("ensemble"):
            continue
        evaluation = Evaluation.load(folder / "evaluation.json")
        assert evaluation.distribution == family.name and evaluation.horizon == family.horizon
        for split, result in evaluation.splits.items():
            assert result.returns.shape == (len(family.tasks(split)), 1, 2) and np.isfinite(result.returns).all()
    logged = [json.loads(line) for line in (tmp_path / "mbml/seed-0/metrics.jsonl").read_text().splitlines()]
    assert 0 <= logged[0]["train/kept_fraction"] <= 1
    weights = torch.load(tmp_path / "mbml/seed-0/last.ckpt", weights_only=True)["state_dict"]
    width = 2 * family.observation_dim + family.action_dim + 1
    assert weights["encoder.mlp.weights.0"].shape[0] == width
    main(["report", str(tmp_path)])
