"""The log of a run: a line a call, whatever became of the process that wrote the lines before."""

import pytest
from commands import command

from mbml_lightning.cli.main import main
from mbml_lightning.errors import ResultsError
from mbml_lightning.files.log import Metrics
from mbml_lightning.training.logger import JSONLLogger


def log(folder, *steps: int) -> None:
    logger = JSONLLogger(str(folder))
    for step in steps:
        logger.log_metrics({"train/loss": float(step)}, step)
    logger.finalize("success")


def test_a_resumed_run_appends(tmp_path):
    log(tmp_path / "run", 10, 20)
    log(tmp_path / "run", 30)
    metrics = Metrics.load(tmp_path / "run/metrics.jsonl")
    assert metrics.curves["train/loss"].values.tolist() == [10, 20, 30]
    assert metrics.problems == []


def test_every_line_is_on_disk_when_it_was_logged(tmp_path):
    logger = JSONLLogger(str(tmp_path))
    for step in (1, 2):
        logger.log_metrics({"a": 0.0}, step)
        assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == step
    logger.finalize("success")


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_short_by_a_kill_does_not_spoil_the_next(tmp_path, cut):
    log(tmp_path, 10, 20)
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    log(tmp_path, 30)
    steps = Metrics.load(path).curves["train/loss"].steps.tolist()
    assert steps == ([10, 20, 30] if cut == 1 else [10, 30]), "only the line that was cut may be lost"


def test_a_log_that_cannot_be_written_is_named_with_its_remedy(tmp_path):
    (tmp_path / "metrics.jsonl").mkdir()
    with pytest.raises(ResultsError, match=r"metrics\.jsonl: cannot be written .*--ckpt_path last"):
        log(tmp_path, 10)


def test_a_checkpoint_callback_of_the_users_saves_in_the_runs_folder(experiment, tmp_path):
    callback = "--trainer.callbacks+=lightning.pytorch.callbacks.ModelCheckpoint"
    words = [callback, "--trainer.callbacks.monitor=val/return", "--evaluation.trials=1", f"--run={tmp_path}/run"]
    main(command("bcq", experiment, *words))
    (path,) = (tmp_path / "run/checkpoints").glob("*.ckpt")
    main(["validate", "-c", f"{tmp_path}/run/config.yaml", f"--ckpt_path={path}", "--evaluation.trials=1"])
    assert not list(tmp_path.rglob("lightning_logs"))
