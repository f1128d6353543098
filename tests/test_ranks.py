"""Training on several ranks is the run of one process, and ends for all of them when it ends for one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import AS_ON_A_LAPTOP, BASELINES, ROOT, command
from processes import free_port, leave_weights, run_on_ranks, slurm

from mbml_lightning import algorithms
from mbml_lightning.cli.main import main
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.store import FIELDS, read_store
from mbml_lightning.training.evaluation import OnlineEvaluation

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
APART = ["sac", "bcq", "reward_ensemble", "next_state_ensemble"]
TOGETHER = ["mbml", *BASELINES, "unicorn_ss"]  # the last has a hook with networks
BLOCKS = ["--model.updates_per_block=5", "--checkpoint.every_n_updates=10", "--evaluation.trials=2"]


def words(phase: str, experiment: Path, run: Path, ranks: int = 1, *more: str) -> list[str]:
    ddp = ["--trainer", str(ROOT / "conf/trainer/ddp.yaml"), "--trainer.accelerator=cpu", f"--trainer.devices={ranks}"]
    return command(phase, experiment, *BLOCKS, f"--run={run}", *(ddp if ranks > 1 else []), "--ckpt_path=last", *more)


def final(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


def difference(one: dict, other: dict) -> float:
    """The largest one of weights and moments."""
    largest = 0.0
    assert one["state_dict"].keys() == other["state_dict"].keys()
    pairs = [(weight, other["state_dict"][name]) for name, weight in one["state_dict"].items()]
    for a, b in zip(one["optimizer_states"], other["optimizer_states"], strict=True):
        assert a["state"].keys() == b["state"].keys()
        pairs += [(x[name], b["state"][i][name]) for i, x in a["state"].items() for name in x]
    for a, b in pairs:
        assert a.shape == b.shape
        largest = max(largest, float((a - b).abs().max()))
    return largest


def returns(run: Path) -> dict[str, np.ndarray]:
    evaluation = Evaluation.load(run / "evaluation.json")
    return {name: split.returns for name, split in evaluation.splits.items()}


def assert_close_returns(one: Path, other: Path) -> None:
    """Of weights that differ in what was rounded, which may choose another candidate now and then."""
    assert returns(one).keys() == returns(other).keys()
    for name, array in returns(one).items():
        np.testing.assert_allclose(array, returns(other)[name], rtol=1e-2)


def assert_same_log(one: Path, other: Path) -> None:
    """The same things at the same updates; losses alike."""
    logs = [[json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()] for run in (one, other)]
    for a, b in zip(*logs, strict=True):
        assert (a.keys(), a["step"]) == (b.keys(), b["step"])
        for name in a:
            assert not name.startswith("train/") or a[name] == pytest.approx(b[name], rel=1e-4, abs=1e-5)


# The same as one process ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phase", "options"), [*((phase, []) for phase in APART + TOGETHER), *AS_ON_A_LAPTOP])
def test_two_ranks_train_what_one_process_does(experiment, tmp_path, phase, options):
    """Sums over half the rows, and the last numbers of a shorter stack, are rounded otherwise: 1e-6 and not bits."""
    main(words(phase, experiment, tmp_path / "one", 1, *options))
    two = words(phase, experiment, tmp_path / "two", 2, *options)
    codes = run_on_ranks(2, two, prepare=leave_weights(tmp_path))
    assert codes == [0, 0]
    assert difference(final(tmp_path / "one"), final(tmp_path / "two")) < 1e-6
    assert_same_log(tmp_path / "one", tmp_path / "two")
    if phase in TOGETHER:
        assert (tmp_path / "weights-0").read_text() == (tmp_path / "weights-1").read_text()
    if not phase.endswith("ensemble"):
        assert_close_returns(tmp_path / "one", tmp_path / "two")
    if phase == "sac":
        one, two = (read_store(tmp_path / name / "data") for name in ("one", "two"))
        for a, b in zip(one.tasks, two.tasks, strict=True):
            assert a.task == b.task
            for name in FIELDS:
                np.testing.assert_allclose(a.fields[name], b.fields[name], atol=1e-5)


@pytest.mark.parametrize("phase", ["sac", "bcq", "mbml"])
def test_a_run_goes_on_with_another_number_of_ranks(experiment, tmp_path, phase):
    main(words(phase, experiment, tmp_path / "whole"))
    steps = final(tmp_path / "whole")["global_step"]
    some = [f"--trainer.max_steps={steps // 2}", *(["--data.interactions=100"] if phase == "sac" else [])]
    assert run_on_ranks(2, words(phase, experiment, tmp_path / "run", 2, *some)) == [0, 0]
    assert final(tmp_path / "run")["global_step"] == steps // 2
    main(words(phase, experiment, tmp_path / "run"))
    assert difference(final(tmp_path / "whole"), final(tmp_path / "run")) < 1e-6
    assert_close_returns(tmp_path / "whole", tmp_path / "run")


def test_there_may_be_more_ranks_than_tasks(experiment, tmp_path):
    main(words("bcq", experiment, tmp_path / "one"))
    assert run_on_ranks(6, words("bcq", experiment, tmp_path / "six", 6)) == [0] * 6
    assert difference(final(tmp_path / "one"), final(tmp_path / "six")) < 1e-6
    assert_close_returns(tmp_path / "one", tmp_path / "six")


# How ranks are started ------------------------------------------------------------------------------------------


def test_slurm_tells_the_ranks_of_two_hosts(experiment, tmp_path):
    main(words("mbml", experiment, tmp_path / "one"))
    more = ["--trainer.num_nodes=2", "--trainer.devices=1"]
    assert run_on_ranks(2, words("mbml", experiment, tmp_path / "two", 2, *more), slurm) == [0, 0]
    assert difference(final(tmp_path / "one"), final(tmp_path / "two")) < 1e-6


def test_torchrun_starts_the_ranks_of_two_hosts(experiment, tmp_path):
    """Which takes ``--run`` for an abbreviation of its own, so that it stands in a file."""
    (tmp_path / "run.yaml").write_text(f"run: {tmp_path / 'two'}")
    port, more = free_port(), ["--trainer.num_nodes=2", "--trainer.devices=1"]
    start = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=1"]
    start += ["--master-addr=localhost", f"--master-port={port}"]
    run = [word for word in words("bcq", experiment, tmp_path, 2, *more) if not word.startswith("--run=")]
    run = ["-m", "mbml_lightning", *run, "-c", str(tmp_path / "run.yaml")]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    hosts = [subprocess.Popen([*start, f"--node-rank={rank}", *run], env=env) for rank in range(2)]
    assert [host.wait(120) for host in hosts] == [0, 0]
    main(words("bcq", experiment, tmp_path / "one"))
    assert difference(final(tmp_path / "one"), final(tmp_path / "two")) < 1e-6


# Waiting, stopping, failing -------------------------------------------------------------------------------------


def test_slow_rollouts_of_one_rank_are_waited_for_longer_than_the_timeout(experiment, tmp_path):
    plain = OnlineEvaluation.act_chunk

    def slow(rank):
        def act(self, *more):
            time.sleep(6 * rank)
            return plain(self, *more)

        OnlineEvaluation.act_chunk = act

    more = ["--trainer.strategy.timeout_minutes=0.05", "--evaluation.copies=1000"]
    assert run_on_ranks(2, words("mbml", experiment, tmp_path / "two", 2, *more), prepare=slow) == [0, 0]


def test_a_signal_to_one_rank_stops_all_at_the_same_update(experiment, tmp_path):
    plain, done = algorithms.MBML.update, []

    def told(rank):
        def update(self, batch):
            done.append(batch)
            if rank == 1 and len(done) == 7:
                os.kill(os.getpid(), signal.SIGTERM)
            return plain(self, batch)

        algorithms.MBML.update = update

    codes = run_on_ranks(2, words("mbml", experiment, tmp_path / "run", 2), prepare=told, errors=tmp_path)
    assert codes == [128 + signal.SIGTERM, 0]
    assert "SIGTERM ended the run after 10 of 20 updates" in (tmp_path / "0.txt").read_text()
    assert final(tmp_path / "run")["global_step"] == 10
    for run in ("run", "whole"):
        assert run_on_ranks(2, words("mbml", experiment, tmp_path / run, 2)) == [0, 0]
    assert difference(final(tmp_path / "whole"), final(tmp_path / "run")) == 0


@pytest.mark.parametrize("culprit", [0, 1])
def test_an_exception_on_one_rank_is_shown_and_ends_the_run(experiment, tmp_path, culprit):
    """With the ranks that the command itself starts."""
    (tmp_path / "faulty.py").write_text(
        "from mbml_lightning.algorithms import BCQ\n"
        "from mbml_lightning.ranks import rank\n"
        "class Faulty(BCQ):\n"
        "    def update(self, batch):\n"
        f"        if rank() == {culprit} and self.global_step == 5:\n"
        "            raise ArithmeticError('the sum is wrong')\n"
        "        return super().update(batch)\n"
    )
    command = [sys.executable, "-m", "mbml_lightning", *words("bcq", experiment, tmp_path / "run", 2)]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    process = subprocess.run([*command, "--model=faulty.Faulty"], env=env, capture_output=True, text=True, timeout=60)
    assert process.returncode != 0
    assert "ArithmeticError: the sum is wrong" in process.stderr


def test_ranks_that_would_mix_tasks_are_refused(experiment, tmp_path):
    more = ["--trainer.strategy=ddp"]
    codes = run_on_ranks(2, words("bcq", experiment, tmp_path / "run", 2, *more), errors=tmp_path)
    assert codes == [1, 1]
    assert "several ranks need `--trainer conf/trainer/ddp.yaml`" in (tmp_path / "0.txt").read_text()


def test_rows_that_ranks_cannot_share_are_refused(experiment, tmp_path):
    more = ["--model.batch_size=7"]
    codes = run_on_ranks(2, words("mbml", experiment, tmp_path / "run", 2, *more), errors=tmp_path)
    assert codes == [1, 1]
    assert "model.batch_size is 7, which 2 ranks cannot share" in (tmp_path / "1.txt").read_text()


def test_ranks_end_with_the_one_that_started_them(experiment, tmp_path):
    """Also while they still wait for it."""
    command = [sys.executable, "-m", "mbml_lightning", *words("bcq", experiment, tmp_path / "run", 2)]
    first = subprocess.Popen([*command, "--trainer.max_steps=1000000"], env=os.environ | {"OMP_NUM_THREADS": "1"})
    children = Path(f"/proc/{first.pid}/task/{first.pid}/children")
    if not children.exists():
        first.kill()
        pytest.skip("needs Linux")
    started = time.monotonic()
    while not children.read_text() and time.monotonic() - started < 60:
        time.sleep(0.1)
    second = Path("/proc", children.read_text().split()[0])
    first.kill()
    first.wait()
    killed = time.monotonic()
    while second.exists() and "State:\tZ" not in (second / "status").read_text() and time.monotonic() - killed < 40:
        time.sleep(0.2)
    assert time.monotonic() - killed < 40
