"""SAC on the tasks of another split: whose tasks they are is written down, and nobody takes them for others."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from commands import ROOT, command

from mbml_lightning.algorithms import SAC
from mbml_lightning.cli.main import main
from mbml_lightning.data.offline import OfflineDataModule
from mbml_lightning.envs import distribution
from mbml_lightning.errors import StoreError
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.store import read_store

FAMILY = distribution("PointGoal")


def sac(folder: Path, split: str, *more: str) -> Path:
    """Run SAC on a split; its folder."""
    overlay = [] if split == "train" else ["-c", str(ROOT / f"conf/split/{split}.yaml")]
    main([*command("sac", folder, *more)[:3], *overlay, *command("sac", folder, "--evaluation.trials=1", *more)[3:]])
    return folder / ("sac" if split == "train" else f"sac_{split}") / "seed-0"


@pytest.fixture(scope="module", params=["test", "ood"])
def run(request, tmp_path_factory) -> tuple[Path, str]:
    return sac(tmp_path_factory.mktemp(request.param), request.param), request.param


def test_tasks_of_the_split_are_learnt_stored_and_evaluated(run):
    folder, split = run
    store, tasks = read_store(folder / "data"), FAMILY.tasks(split)
    assert store.meta["split"] == split
    np.testing.assert_array_equal([record.task for record in store.tasks], tasks)
    for record, task in zip(store.tasks, tasks, strict=True):
        offset = record.fields["next_observations"].astype(np.float64) - task
        np.testing.assert_allclose(record.fields["rewards"], -np.hypot(*offset.T), rtol=1e-5)
    evaluation = Evaluation.load(folder / "evaluation.json")
    assert set(evaluation.splits) == {split}
    np.testing.assert_array_equal(evaluation.splits[split].tasks, tasks)
    loaded = SAC.load_from_checkpoint(folder / "last.ckpt", weights_only=True)
    assert loaded.split == split
    np.testing.assert_array_equal(loaded.tasks, tasks)


def test_the_store_is_read_only_by_who_asks_for_the_split(run):
    folder, split = run
    with pytest.raises(StoreError, match=f"data: holds {split} tasks, train is asked: set data.store$"):
        OfflineDataModule(str(folder / "data"), "PointGoal").setup("fit")
    data = OfflineDataModule(str(folder / "data"), "PointGoal", split=split)
    data.setup("fit")
    assert len(data.rows.packed) == len(FAMILY.tasks(split))


def test_a_run_does_not_go_on_with_another_split(run, tmp_path):
    folder, split = run
    shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SystemExit) as stop:
        sac(tmp_path, "train", f"--run={tmp_path / 'copy'}", "--ckpt_path=last")
    message = str(stop.value.code)
    assert f"last.ckpt: split is {split}, train is needed" in message and "\n" not in message
