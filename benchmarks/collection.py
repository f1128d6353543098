"""Return against minutes of one core: SAC by the laptop's recipe, SAC as in the paper, and a common library's SAC.

The library is Stable-Baselines3, which is not among the pinned packages: ``pip install --no-deps stable-baselines3``.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import gymnasium as gym
import torch

from benchmarks.learners import CONF, load_scale
from benchmarks.measuring import Rows, publish
from mbml_lightning import envs

AS_IN_THE_PAPER = {
    "copies": 1,
    "updates_per_step": 1,
    "actor_every": 1,
    "initial_temperature": 1.0,
    "layer_norm": "false",
    "tau": 0.005,
    "lr": 3e-4,
    "batch_size": 256,
    "discount": 0.99,
}
"""Values of ``scale.sac_...`` for collection as in the paper, in networks of the laptop's size."""
Curve = list[tuple[float, float]]
"""Minutes and mean return of the training episodes that ended about then."""


def ours(options: argparse.Namespace, *words: str) -> Curve:
    """The training returns of ``mbml fit``, on one core, cut off after the minutes."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["fit", "-c", f"{CONF}/sac.yaml", "--task", f"{CONF}/task/{options.task}.yaml"]
        command += ["--scale", f"{CONF}/scale/laptop.yaml", f"--run={folder}", f"--model.num_tasks={options.tasks}"]
        command += ["--trainer.limit_val_batches=0", "--evaluation.splits=[]", "--trainer.accelerator=cpu"]
        command += [f"--trainer.max_time=00:00:{options.minutes:02d}:00", "--trainer.enable_progress_bar=false"]
        command += ["--scale.collection_steps=4000000", "--scale.interactions=4000"]
        on_one_core([sys.executable, "-m", "mbml_lightning", *command, *words])
        lines = [json.loads(line) for line in Path(folder, "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
        began = lines[0]["time"]
        return [((line["time"] - began) / 60, line["train/return"]) for line in lines if "train/return" in line]


def theirs(options: argparse.Namespace) -> Curve:
    """The training returns of Stable-Baselines3 with its own defaults, on one core and the first task."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "curve.json")
        words = ["--task", options.task, "--minutes", str(options.minutes), "--theirs", str(path)]
        on_one_core([sys.executable, "-m", "benchmarks.collection", *words])
        return [(minutes, value) for minutes, value in json.loads(path.read_text(encoding="utf-8"))]


def on_one_core(command: Sequence[str]) -> None:
    """Run a command that may use one core."""
    core = {min(os.sched_getaffinity(0))}
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run(command, env=env, check=True, preexec_fn=lambda: os.sched_setaffinity(0, core))


def library(options: argparse.Namespace) -> None:
    """Train Stable-Baselines3's SAC and write its curve; this is the process on the core."""
    from stable_baselines3 import SAC
    from stable_baselines3.common.callbacks import BaseCallback

    class Curves(BaseCallback):
        """Notes the return of every episode, and ends the training in time."""

        def _on_training_start(self) -> None:
            self.began, self.curve = time.perf_counter(), []

        def _on_step(self) -> bool:
            minutes = (time.perf_counter() - self.began) / 60
            self.curve += [(minutes, float(i["episode"]["r"])) for i in self.locals["infos"] if "episode" in i]
            return minutes < options.minutes

    torch.set_num_threads(1)
    distribution = envs.distribution(load_scale("laptop", options.task).distribution)
    env = gym.make(distribution.env_id, task=distribution.tasks("train")[0])
    callback = Curves()
    SAC("MlpPolicy", env, seed=0, device="cpu").learn(10**9, callback)
    options.theirs.write_text(json.dumps(callback.curve), encoding="utf-8")


def measure(options: argparse.Namespace) -> Rows:
    """A row a minute."""
    paper = [f"--scale.sac_{name}={value}" for name, value in AS_IN_THE_PAPER.items()]
    curves = {
        f"recipe, {options.tasks} tasks": ours(options),
        f"as in the paper, {options.tasks} tasks": ours(options, *paper, "--scale.standardise=false"),
    }
    if options.compare:
        curves["Stable-Baselines3, 1 task"] = theirs(options)
    return [
        {"minute": minute} | {name: mean_in(curve, minute) for name, curve in curves.items()}
        for minute in range(1, options.minutes + 1)
    ]


def mean_in(curve: Curve, minute: int) -> float:
    """Mean return of the episodes that ended within a minute."""
    values = [value for minutes, value in curve if minute - 1 <= minutes < minute]
    return sum(values) / len(values) if values else float("nan")


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.collection", description=__doc__)
    parser.add_argument("--task", default="half_cheetah_vel", help="of conf/task (default: %(default)s)")
    parser.add_argument("--tasks", type=int, default=10, help="tasks that learn together (default: %(default)s)")
    parser.add_argument("--minutes", type=int, default=6, help="of a core for each (default: %(default)s)")
    parser.add_argument("--compare", action="store_true", help="train Stable-Baselines3 too, on the first task")
    parser.add_argument("--theirs", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    if options.theirs:
        library(options)
    else:
        publish("collection", {"Returns": measure(options)}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
