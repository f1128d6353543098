"""Progress is a bar where someone looks, and a line now and then where someone reads it later."""

import sys
from unittest.mock import Mock

import lightning as L
import pytest

from mbml_lightning.training.progress import Progress, ProgressLines, progress


@pytest.mark.parametrize(("terminal", "notebook", "kind"), [(True, False, Progress), (False, True, Progress),
                                                            (False, False, ProgressLines)])  # fmt: skip
def test_a_bar_for_a_terminal_and_a_notebook_lines_for_a_file(monkeypatch, terminal, notebook, kind):
    monkeypatch.setattr(sys, "stdout", Mock(isatty=lambda: terminal))
    monkeypatch.delitem(sys.modules, "ipykernel", raising=False)
    if notebook:
        monkeypatch.setitem(sys.modules, "ipykernel", Mock())
    assert type(progress()) is kind


def test_lines_come_at_most_once_a_minute_and_say_how_long_it_takes(monkeypatch, capsys):
    """From update 100 of 1,000: after 30 s nothing; after 61 s, 200 done in them, another 700 will take 213.5 s."""
    moments = iter([0.0, 30.0, 61.0, 90.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    trainer = Mock(spec=L.Trainer, global_step=100, max_steps=1000, lightning_module=Mock(label="Neither"))
    lines = ProgressLines()
    lines.on_train_start(trainer)
    for step in (200, 300, 400):
        trainer.global_step = step
        lines.on_train_batch_end(trainer)
    assert capsys.readouterr().err == "mbml: Neither: 300 of 1,000 updates, about 0:03:34 left\n"


def test_other_ranks_say_nothing(monkeypatch, capsys):
    moments = iter([0.0, 100.0])
    monkeypatch.setattr("time.monotonic", lambda: next(moments))
    trainer = Mock(spec=L.Trainer, global_step=0, max_steps=10, lightning_module=Mock(spec=L.LightningModule))
    lines = ProgressLines()
    lines.disable()
    lines.on_train_start(trainer)
    lines.on_train_batch_end(trainer)
    assert capsys.readouterr().err == ""
