"""The evaluation callback: its chunks, their merging, and the same scores on one rank and on two."""

import os
import subprocess
import sys

import numpy as np
import pytest
from commands import command

from mbml_lightning.algorithms import BCQ, MBML
from mbml_lightning.evaluation.adaptation import Adaptation
from mbml_lightning.evaluation.callbacks import OnlineEvaluation, merge
from mbml_lightning.evaluation.results import Evaluation

SMALL = dict(hidden=[4], vae_hidden=[4])


@pytest.mark.parametrize("trials", [1, 3, 8])
@pytest.mark.parametrize("copies", [1, 4, 16, 1000])
@pytest.mark.parametrize("method", [BCQ("PointGoal", **SMALL), MBML("PointGoal", "teachers.ckpt")])
def test_chunks_cover_every_pair_once(trials, copies, method):
    evaluation = OnlineEvaluation("nowhere", trials=trials, copies=copies)
    pairs = [(c.split, k, b) for c in evaluation.chunks(method) for k in c.tasks for b in c.trials]
    tasks = {"train": range(5)} if method.stacked else {"train": range(5), "test": range(4)}
    assert sorted(pairs) == sorted((split, k, b) for split in tasks for k in tasks[split] for b in range(trials))


@pytest.mark.parametrize("method", [BCQ("PointGoal", **SMALL), MBML("PointGoal", "teachers.ckpt")])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_merging_restores_the_order_whatever_the_ranks(method, world_size):
    evaluation = OnlineEvaluation("nowhere", trials=4, copies=10)
    chunks = list(evaluation.chunks(method))

    def result(chunk):
        returns = [[[100.0 * k + 10 * b + e for e in range(3)] for b in chunk.trials] for k in chunk.tasks]
        observations = [[[[k, e]] for e in range(3)] for k in chunk.tasks]
        return Adaptation(np.array(returns), np.array(observations, np.float32))

    by_rank = [(c, result(c)) for rank in range(world_size) for c in chunks[rank::world_size]]
    merged = merge(by_rank)
    for split, adaptation in merged.items():
        tasks = len(method.family.tasks(split))
        expected = [[[100.0 * k + 10 * b + e for e in range(3)] for b in range(4)] for k in range(tasks)]
        assert adaptation.returns.tolist() == expected, split
        assert adaptation.observations[:, 0, 0, 0].tolist() == list(range(tasks))


def test_two_ranks_report_the_scores_of_one(experiment, tmp_path):
    run = experiment / "mbml/seed-0"
    words = command("mbml", experiment, f"--run={tmp_path}", "--ckpt_path", str(run / "last.ckpt"))
    words = ["validate", *words[1:], "--evaluation.trials=2", "--evaluation.copies=4"]
    ranks = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.use_distributed_sampler=false"]
    scores = []
    for more in ([], ranks):
        env = os.environ | {"OMP_NUM_THREADS": "1"}
        subprocess.run([sys.executable, "-m", "mbml_lightning", *words, *more], check=True, env=env, timeout=240)
        splits = Evaluation.load(tmp_path / "evaluation.json").splits
        scores.append({name: split.returns for name, split in splits.items()})
    assert scores[0].keys() == scores[1].keys() == {"train", "test"}
    for split in scores[0]:
        np.testing.assert_array_equal(scores[0][split], scores[1][split])
