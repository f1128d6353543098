"""Runs killed at random moments end where an uninterrupted one does; the long version is a benchmark."""

import signal

import pytest
import torch

from benchmarks.kill_campaign import Campaign, differences, faults, results
from benchmarks.killing import Moment, start

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")


@pytest.mark.parametrize("phase", ["sac", "mbml"])
def test_runs_killed_before_a_call_and_within_a_file_end_alike(experiment, tmp_path, phase):
    tally = Campaign(phase, experiment, tmp_path, seed=2, updates=40).kill(["write", "half"])
    assert tally.wrong == []
    assert tally.hits == {"write": 1, "half": 1}
    assert len(tally.updates) == 2 and tally.finished >= 1


def test_a_changed_bit_and_a_cut_file_are_noticed(experiment, tmp_path):
    campaign = Campaign("multi_task_bc", experiment, tmp_path, updates=20)
    one, other = results(campaign.whole), results(campaign.whole)
    assert list(differences(one, other)) == []
    name = next(iter(other["state_dict"]))
    other["state_dict"][name].view(torch.int32).reshape(-1)[0] ^= 1
    assert list(differences(one, other)) == [f"/state_dict/{name}"]
    for path in (campaign.whole / name for name in ("last.ckpt", "evaluation.json", "trajectories.npz")):
        path.write_bytes(path.read_bytes()[:-40])
    assert [fault.split(":")[0] for fault in faults(campaign.whole)] == [
        "last.ckpt",
        "evaluation.json",
        "trajectories.npz",
    ]


def write(path):
    path.parent.mkdir()
    path.with_name(".partial-data.bin").write_bytes(b"x" * 1000)
    path.with_name(".partial-data.bin").rename(path)


@pytest.mark.parametrize(
    ("moment", "left"),
    [
        (Moment("write", call=1), None),
        (Moment("write", call=3), {".partial-data.bin": 1000}),
        (Moment("half", call=1, share=0.5, files={"data.bin": 1000}), {".partial-data.bin": 500}),
        (Moment(), {"data.bin": 1000}),
    ],
)
def test_a_moment_kills_exactly_there(tmp_path, monkeypatch, moment, left):
    monkeypatch.setattr("benchmarks.killing.mbml", write)
    run = tmp_path / "run"
    ending = start(run / "data.bin", run, moment)
    assert ending.killed == bool(moment.kind) and ending.code == (-signal.SIGKILL if moment.kind else 0)
    assert left == ({path.name: path.stat().st_size for path in run.iterdir()} if run.exists() else None)
