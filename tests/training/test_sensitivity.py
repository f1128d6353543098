"""What a training logs about rewards: the encoder's sensitivity, the posteriors, and the errors of relabelling."""

import json

import numpy as np
import pytest
from commands import command

from mbml_lightning.cli.main import main

BLOCKS = ["--model.updates_per_block=5", "--checkpoint.every_n_updates=10", "--evaluation.splits=[]"]


def logged(run, metric: str) -> list[tuple[int, float]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line[metric]) for line in lines if metric in line]


def posteriors(run) -> dict[str, np.ndarray]:
    with np.load(run / "posteriors.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.mark.parametrize("method", ["mbml", "neither"])
def test_sensitivity_is_logged_and_posteriors_are_kept(experiment, method):
    run = experiment / method / "seed-0"
    (step, sensitivity), (_, followed) = *logged(run, "val/reward_sensitivity"), *logged(run, "val/rewards_followed")
    assert step == 20 and sensitivity > 0 and 0 <= followed <= 1
    kept = posteriors(run)
    for when in ("before", "after"):
        own, swapped = kept[f"{when}_own"], kept[f"{when}_relabelled"]
        assert own.shape == (5, 8, 20) and swapped.shape == (5, 5, 8, 20)
        assert all(np.array_equal(swapped[i, i], own[i]) for i in range(5))
        assert not np.allclose(swapped[0, 1], own[1]), "other rewards, another posterior"
    assert not np.allclose(kept["before_own"], kept["after_own"])


def test_posteriors_before_training_outlive_a_pause(experiment, tmp_path):
    for updates in (10, 20):
        words = [*BLOCKS, f"--run={tmp_path}", "--ckpt_path=last", "--trainer.val_check_interval=2"]
        main(command("mbml", experiment, *words, f"--trainer.max_steps={updates}"))
        if updates == 10:
            first = posteriors(tmp_path)
    last = posteriors(tmp_path)
    assert np.array_equal(first["before_own"], last["before_own"])
    assert not np.allclose(first["after_own"], last["after_own"])
    assert [step for step, _ in logged(tmp_path, "val/reward_sensitivity")] == [10, 20]


def test_errors_of_relabelled_rewards_are_logged(experiment):
    run = experiment / "reward_ensemble/seed-0"
    error, single = logged(run, "val/relabelling_error"), logged(run, "val/relabelling_error_single")
    assert error[-1][0] == 20 and 0 < error[-1][1] < single[-1][1], "the ensemble errs less than one of its networks"


def test_only_the_last_evaluation_of_a_training_has_all_trials(experiment, tmp_path, monkeypatch):
    from mbml_lightning.files.evaluation import Evaluation

    seen = []
    plain = Evaluation.save

    def save(self, path):
        seen.append((self.step, self.trials))
        plain(self, path)

    monkeypatch.setattr(Evaluation, "save", save)
    words = ["--trainer.max_steps=20", "--trainer.val_check_interval=2", "--model.updates_per_block=5"]
    trials = ["--evaluation.trials=3", "--evaluation.trials_while_training=1", "--evaluation.splits=[test]"]
    main(command("mbml", experiment, *words, *trials, f"--run={tmp_path}"))
    assert seen == [(10, 1), (20, 3)]
