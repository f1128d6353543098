"""Checkpoints: what was written comes back, and anything else is refused in one line that says what to do."""

import pytest
import torch

from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.checkpoints import CHECKPOINT_KEY, SCHEMA, Checkpoint

WEIGHTS = {"net.weight": torch.arange(6.0).view(2, 3)}
RECORD = {"method": "BCQ", "distribution": "PointGoal", "data": "d" * 64, "parents": {}, "config": None}


@pytest.fixture
def path(tmp_path):
    Checkpoint.seal({"state_dict": dict(WEIGHTS), "global_step": 7}, RECORD).write(tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def changed(path, change) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_comes_back_as_it_was_written(path):
    read = Checkpoint.read(path)
    assert torch.equal(read.state_dict["net.weight"], WEIGHTS["net.weight"])
    assert read.record["schema"] == SCHEMA and read.record["method"] == "BCQ" and read.content["global_step"] == 7
    read.check(method="BCQ", distribution="PointGoal")
    read.check_data("d" * 64)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            lambda c: c[CHECKPOINT_KEY].update(schema=1),
            "has schema 1, and this version reads 2 only: train again, or use",
        ),
        (lambda c: c.pop(CHECKPOINT_KEY), "not a checkpoint of this package: give the last.ckpt of a run"),
        (lambda c: c["state_dict"]["net.weight"].add_(1), "not that of its SHA-256: damaged or changed; train again"),
        (lambda c: c.update(global_step=8), "not that of its SHA-256: damaged or changed; train again"),
    ],
)
def test_others_are_refused(path, change, words):
    changed(path, change)
    with pytest.raises(CheckpointError, match=words) as caught:
        Checkpoint.read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_weights_of_something_else_are_refused(path):
    read = Checkpoint.read(path)
    with pytest.raises(CheckpointError, match="method is BCQ, SAC is needed"):
        read.check(method="SAC")
    with pytest.raises(CheckpointError, match="other data"):
        read.check_data("e" * 64)
