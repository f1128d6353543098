"""Time of one update of each phase on one process and on two ranks, from the logs of real runs."""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.learners import CONF
from benchmarks.measuring import Rows, publish
from mbml_lightning.files.log import Metrics

UPDATES = {"sac": 500, "bcq": 500, "reward_ensemble": 2000, "mbml": 500}
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two ranks, a thread each": (2, 1)}


def run(phase: str, options: argparse.Namespace, experiment: Path, folder: Path, ranks: int, threads: int) -> float:
    """Milliseconds of an update: the median over blocks of a run of its own."""
    words = ["fit", "-c", f"{CONF}/{phase}.yaml", "--task", f"{CONF}/task/{options.task}.yaml"]
    words += ["--scale", f"{CONF}/scale/{options.scale}.yaml", f"--experiment={experiment}", f"--run={folder}"]
    words += ["--scale.warmup=1000", "--scale.interactions=1500", "--scale.collection_steps=1500"]
    words += ["--scale.sac_copies=1", "--scale.sac_updates_per_step=1"]
    words += [f"--trainer.max_steps={UPDATES[phase]}", "--trainer.limit_val_batches=0", "--evaluation.splits=[]"]
    words += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    if ranks > 1:
        words += ["--trainer", f"{CONF}/trainer/ddp.yaml", f"--trainer.devices={ranks}"]
    env = os.environ | {"OMP_NUM_THREADS": f"{threads}"}
    subprocess.run([sys.executable, "-m", "mbml_lightning", *words], env=env, check=True)
    metrics = Metrics.load(folder / "metrics.jsonl")
    return 1e3 * metrics.seconds / UPDATES[phase]


def measure(options: argparse.Namespace) -> Rows:
    """A row a phase; ways take turns."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        experiment = Path(folder)
        for phase in UPDATES:
            run(phase, options, experiment, experiment / phase / "seed-0", 1, 1)  # what later phases need
        for phase in UPDATES:
            samples: dict[str, list[float]] = {name: [] for name in WAYS}
            for i in range(options.rounds):
                for j, (name, (ranks, threads)) in enumerate(WAYS.items()):
                    samples[name].append(run(phase, options, experiment, experiment / f"{phase}{i}{j}", ranks, threads))
            ms = {name: statistics.median(values) for name, values in samples.items()}
            one, two, ranks_ms = ms.values()
            times = {f"{name}, ms": value for name, value in ms.items()}
            rows.append(
                {"phase": phase} | times | {"faster than one thread": one / ranks_ms, "than two": two / ranks_ms}
            )
    return rows


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.ranks", description=__doc__)
    parser.add_argument("--task", default="umaze_goal_m", help="of conf/task (default: %(default)s)")
    parser.add_argument("--scale", default="laptop", help="of conf/scale (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each way (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    publish("ranks", {"Updates": measure(options)}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
