"""The workflow: killed, it goes on; finished, it has nothing to do; it knows the way to every figure."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT

from mbml_lightning.files.checkpoints import Checkpoint
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


@pytest.mark.nightly
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


def snakemake(*words: str, tree: Path = ROOT, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run the workflow that lies in a tree, at tiny scale on PointGoal."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    options = ["snakemake", "--snakefile", str(tree / "workflow/Snakefile"), "--cores", "2", "--nolock"]
    return subprocess.run(
        [*options, *words], cwd=cwd, env=os.environ | {"PATH": path}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_an_edited_configuration_trains_again_what_it_changes_and_nothing_else(tmp_path):
    tree, runs = tmp_path / "a tree", tmp_path / "some runs"
    for name in ("workflow", "conf"):
        shutil.copytree(ROOT / name, tree / name)
    done = f"{runs}/PointGoal-tiny/bcq/seed-0/done"
    words = ["--config", "task=point_goal", "scale=tiny", f"runs={runs}", "--", done]

    def checkpoints():
        ended = snakemake(*words, tree=tree, cwd=tmp_path)
        assert ended.returncode == 0, ended.stderr[-3000:]
        return [Checkpoint.read(runs / f"PointGoal-tiny/{name}/seed-0/last.ckpt") for name in ("sac", "bcq")]

    sac, bcq = checkpoints()
    assert bcq.content["global_step"] == 20
    scale = tree / "conf/scale/tiny.yaml"
    text = scale.read_text()
    scale.write_text(text.replace("bcq_updates: 20", "bcq_updates: 30"))
    same, longer = checkpoints()
    assert same.record["made_by"] == sac.record["made_by"] and same.digest == sac.digest  # the very same run
    assert longer.content["global_step"] == 30
    scale.write_text(text.replace("sac_batch_size: 16", "sac_batch_size: 8"))
    other, taught = checkpoints()
    assert other.digest != sac.digest and taught.record["data"] != bcq.record["data"]
    assert taught.content["global_step"] == 20  # on the other data, begun anew
    assert "Nothing to be done" in snakemake(*words, tree=tree, cwd=tmp_path).stderr


def test_it_runs_from_anywhere(tmp_path):
    words = ["--config", "task=point_goal", "scale=tiny", "--dry-run", "--", "demo"]
    for cwd, more in ((tmp_path, []), (ROOT, ["--directory", str(tmp_path)])):
        ended = snakemake(*more, *words, cwd=cwd)
        assert ended.returncode == 0 and "runs/PointGoal-tiny/mbml/seed-0/done" in ended.stdout, ended.stderr


@pytest.mark.parametrize(
    ("given", "seeds"), [("seeds=3", {3}), ("seeds=0,1,2", {0, 1, 2}), ("seeds=[0,4]", {0, 4}), ("seeds=7,", None)]
)
def test_seeds_are_what_they_say(tmp_path, given, seeds):
    ended = snakemake("--config", "task=point_goal", "scale=tiny", given, "--dry-run", "--", "demo", cwd=tmp_path)
    if seeds is None:
        assert "--config seeds: '' is no seed: give whole numbers, as in seeds=0,1,2" in ended.stdout + ended.stderr
    else:
        found = re.findall(r"output: runs/PointGoal-tiny/sac/seed-(\d+)/done", ended.stdout)
        assert sorted(map(int, found)) == sorted(seeds)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("scale=nope", "--config scale=nope: choose among laptop, paper, tiny"),
        ("task=nope", "--config task=nope: choose among ant_dir, "),
        ("splits=train", "--config splits: 'train' is none: choose among test, ood"),
        ("sclae=tiny", "--config sclae: choose among task, scale, seeds, runs, splits"),
    ],
)
def test_a_mistake_lists_what_there_is(tmp_path, given, said):
    ended = snakemake("--config", given, "--dry-run", "--", "demo", cwd=tmp_path)
    assert ended.returncode != 0 and said in ended.stdout + ended.stderr
