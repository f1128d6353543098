"""The workflow of the demo: killed, it goes on; finished, it has nothing to do."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT

SNAKEMAKE = [
    *("snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2", "--nolock", "--rerun-incomplete"),
    *("--config", "task=point_goal", "scale=tiny"),
]


def workflow(runs: Path, **options) -> subprocess.Popen:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = [*SNAKEMAKE, f"runs={runs}", "--", "demo"]
    pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(words, cwd=ROOT, env=os.environ | {"PATH": path}, **pipe, **options)


@pytest.mark.timeout(600)
def test_a_killed_workflow_goes_on_and_a_finished_one_rests(tmp_path):
    experiment = tmp_path / "PointGoal-tiny"
    first = workflow(tmp_path, start_new_session=True)
    deadline = time.monotonic() + 240
    while not (experiment / "bcq/seed-0/config.yaml").exists():
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.2)
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    collected = (experiment / "sac/seed-0/last.ckpt").stat().st_mtime
    second = workflow(tmp_path)
    text, _ = second.communicate()
    assert second.returncode == 0, text[-3000:]
    for method in ("sac", "bcq", "reward_ensemble", "mbml", "neither", "random"):
        assert (experiment / method / "seed-0/done").is_file()
    assert (experiment / "sac/seed-0/last.ckpt").stat().st_mtime == collected
    third = workflow(tmp_path)
    assert "Nothing to be done" in third.communicate()[0]
