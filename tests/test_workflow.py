"""The workflow: killed, it goes on; finished, it has nothing to do; it knows the way to every figure."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT

from mbml_lightning.results.methods import methods_for

SNAKEMAKE = [
    *("snakemake", "--snakefile", "workflow/Snakefile", "--cores", "2", "--nolock", "--rerun-incomplete"),
    *("--config", "task=point_goal", "scale=tiny"),
]


def workflow(runs: Path, **options) -> subprocess.Popen:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = [*SNAKEMAKE, f"runs={runs}", "--", "demo", "fig7", "fig12"]
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
    for method in ("sac", "bcq", "reward_ensemble", "mbml", "neither", "no_ensemble", "random"):
        assert (experiment / method / "seed-0/done").is_file()
    assert (experiment / "sac/seed-0/last.ckpt").stat().st_mtime == collected
    for ending in ("png", "svg", "csv", "md"):
        assert (experiment / f"figures/fig7.{ending}").is_file() and (experiment / f"figures/fig12.{ending}").is_file()
    third = workflow(tmp_path)
    assert "Nothing to be done" in third.communicate()[0]


@pytest.mark.parametrize(("task", "physics"), [("ant_dir", "shared"), ("walker_param", "varied")])
def test_every_target_has_its_rules(tmp_path, task, physics):
    words = [*SNAKEMAKE[:-2], f"task={task}", "scale=tiny", "seeds=[0,1]", f"runs={tmp_path}", "splits=[test,ood]"]
    words += ["--dry-run", "--", "all", "protocols"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    text = subprocess.run(words, cwd=ROOT, env=os.environ | {"PATH": path}, capture_output=True, text=True).stdout
    outputs = set(re.findall(rf"output: {tmp_path}/\S+-tiny/([^\s,]+)", text))
    methods = methods_for(physics)
    seeds = {name: (0,) if method.kind == "collector" else (0, 1) for name, method in methods.items()}
    expected = {f"{name}/seed-{seed}/done" for name in methods for seed in seeds[name]}
    adapting = [name for name, method in methods.items() if method.kind in ("method", "ablation")]
    expected |= {f"{name}/seed-{seed}/protocols" for name in adapting for seed in (0, 1)}
    assert "ground_truth" in adapting or physics == "varied"
    numbers = (4, 6, 7, 11, 12) if physics == "shared" else (4, 6, 11, 12)
    assert outputs == expected | {f"figures/fig{number}.png" for number in numbers}
