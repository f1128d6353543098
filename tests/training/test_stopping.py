"""A signal is noted and obeyed at the next block; a second one, or one after the training, is as ever."""

import os
import signal
import subprocess
import sys
import threading
from unittest.mock import Mock

import lightning as L
import pytest
from commands import command
from lightning.pytorch.callbacks import Timer

from mbml_lightning.cli.main import main
from mbml_lightning.training.stopping import SIGNALS, STOP, GracefulStop, StopSignal, TimeLimit, is_over


@pytest.fixture
def stop():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    stop = StopSignal()
    stop.install()
    yield stop
    stop.restore()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_a_second_one_interrupts(stop, number):
    assert stop.received is None and not stop.agreed()
    os.kill(os.getpid(), number)
    assert stop.received == number and stop.agreed()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert stop.received == number


def test_what_was_received_outlives_the_handlers_until_the_next_run(stop):
    os.kill(os.getpid(), signal.SIGTERM)
    stop.restore()
    assert stop.received == signal.SIGTERM
    stop.clear()
    assert stop.received is None and not stop.agreed()


def test_what_another_rank_received_is_received_here(stop, monkeypatch):
    monkeypatch.setattr("mbml_lightning.ranks.gather", lambda mine: [mine, int(signal.SIGUSR1)])
    assert stop.agreed() and stop.received == signal.SIGUSR1


def test_nothing_is_received_after_restoring():
    stop, seen = StopSignal(), []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: seen.append(number))
    try:
        stop.install()
        stop.restore()
        os.kill(os.getpid(), signal.SIGUSR1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1] and stop.received is None


@pytest.mark.parametrize(("block", "validates"), [(2, True), (3, False)])
def test_a_stopped_training_validates_only_where_that_was_due(monkeypatch, block, validates):
    monkeypatch.setattr(STOP, "received", int(signal.SIGTERM))
    trainer = Mock(spec=L.Trainer, should_stop=False, limit_val_batches=1.0, val_check_batch=3)
    trainer.fit_loop = Mock(total_batch_idx=block)
    GracefulStop().on_train_batch_end(trainer)
    assert trainer.should_stop and trainer.limit_val_batches == (1.0 if validates else 0)


def test_a_training_in_another_thread_leaves_signals_alone(experiment, tmp_path):
    before, ended = {number: signal.getsignal(number) for number in SIGNALS}, []

    def train():
        try:
            main(command("bcq", experiment, f"--run={tmp_path}/run", "--evaluation.trials=1"))
        except BaseException as error:
            ended.append(error)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert not ended and (tmp_path / "run/evaluation.json").exists()
    assert {number: signal.getsignal(number) for number in SIGNALS} == before


def test_the_package_is_imported_where_there_are_fewer_signals():
    words = "import os, signal; del signal.SIGUSR1, signal.SIGKILL, os.sched_getaffinity\n"
    words += "import mbml_lightning.cli.run, mbml_lightning.training.stopping as s\n"
    words += "from mbml_lightning.envs import make_vec_env; make_vec_env('AntDir')\n"
    words += "assert s.SIGNALS == [signal.SIGINT, signal.SIGTERM]"
    subprocess.run([sys.executable, "-c", words], check=True, timeout=120)


def test_a_limit_of_time_begins_anew_in_every_process_and_a_timer_goes_on(monkeypatch):
    now = iter([0.0, 7.0, 100.0, 105.0, 112.0])
    monkeypatch.setattr("time.monotonic", lambda: next(now))
    for kind, left in ((TimeLimit, 10.0), (Timer, 3.0)):
        timer = kind("00:00:00:10")
        timer.load_state_dict({"time_elapsed": {"train": 7.0}})
        assert timer.time_remaining() == left
    limit = TimeLimit("00:00:00:10")
    limit.on_train_start(Mock(), Mock())  # at 0
    assert not is_over(limit)  # at 7
    limit.on_train_start(Mock(), Mock())  # at 100
    assert not is_over(limit) and is_over(limit)  # at 105, at 112
    assert not is_over(GracefulStop())


@pytest.mark.parametrize(("stopped", "due", "limit"), [(True, False, 0), (True, True, 1.0), (False, False, 1.0)])
def test_a_run_whose_time_is_up_is_evaluated_only_where_that_was_due(stopped, due, limit):
    trainer = Mock(spec=L.Trainer, should_stop=False, limit_val_batches=1.0, val_check_batch=3)
    trainer.strategy = Mock(broadcast=lambda mine: stopped)  # the first rank's clock decides
    trainer.fit_loop = Mock(total_batch_idx=2 if due else 1)
    TimeLimit("00:00:00:10").on_train_batch_end(trainer)
    assert trainer.should_stop == stopped and trainer.limit_val_batches == limit
