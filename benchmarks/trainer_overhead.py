"""What `mbml fit` adds to an update, beside a bare loop in the same process, by the updates of a Lightning batch."""

import argparse
import contextlib
import io
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.clock import WARM_UP
from benchmarks.learners import CONF, load_scale
from benchmarks.measuring import Rows, publish, spread, threads
from mbml_lightning.cli.main import main as mbml

Seconds = dict[str, float]

METHODS = {"sac": "sac", "bcq": "bcq", "ensemble": "reward_ensemble"}
REPORTING = {
    "log and bar each block": [],
    "neither": ["--trainer.logger", "false", "--trainer.enable_progress_bar", "false"],
}


def fit(method: str, scale: str, experiment: Path, *words: str) -> None:
    """`mbml fit`, without its bar on the terminal."""
    command = ["fit", "-c", f"{CONF}/{method}.yaml", "--task", f"{CONF}/task/umaze_goal_m.yaml"]
    command += ["--scale", f"{CONF}/scale/{scale}.yaml", "--experiment", f"{experiment}"]
    command += ["--trainer.limit_val_batches", "0", "--trainer.default_root_dir", f"{experiment}"]
    with contextlib.redirect_stdout(io.StringIO()):
        mbml([*command, *words])


def collect(experiment: Path, interactions: int) -> None:
    """Batches for the methods that learn offline, by a small SAC that hardly learns."""
    steps = {"warmup": interactions - 1, "collection_steps": interactions, "interactions": interactions}
    fit("sac", "tiny", experiment, *(f"--scale.{name}={value}" for name, value in steps.items()))


def times(phase: str, options: argparse.Namespace, per_block: int, words: Sequence[str], experiment: Path) -> Seconds:
    """Seconds an update, bare and in the Trainer's loop, of one run."""
    with tempfile.TemporaryDirectory(dir=experiment) as run:
        clock = {"path": f"{run}/clock.json", "updates": options.updates}
        warmup = load_scale(options.scale).sac_batch_size
        steps = {"warmup": warmup, "collection_steps": warmup + WARM_UP + 2 * options.updates, "interactions": warmup}
        fit(
            METHODS[phase],
            options.scale,
            experiment,
            *(f"--scale.{name}={value}" for name, value in steps.items()),
            "--scale.sac_copies=1",
            "--scale.sac_updates_per_step=1",
            f"--run={run}",
            f"--trainer.max_steps={options.updates}",
            f"--model.init_args.updates_per_block={per_block}",
            "--trainer.callbacks+=benchmarks.clock.Clock",
            *(f"--trainer.callbacks.{name}={value}" for name, value in clock.items()),
            *words,
        )
        seconds: Seconds = json.loads(Path(run, "clock.json").read_text(encoding="utf-8"))
        return seconds


def measure(options: argparse.Namespace) -> Rows:
    """One row a phase, way of reporting and size of a block."""
    variants = [(p, r, b) for p in options.phases for r in REPORTING for b in options.blocks]
    runs: dict[tuple[str, str, int], list[Seconds]] = {variant: [] for variant in variants}
    with tempfile.TemporaryDirectory() as folder:
        collect(Path(folder), load_scale(options.scale).sac_batch_size)
        for _ in range(options.rounds):
            for phase, reporting, per_block in variants:
                run = times(phase, options, per_block, REPORTING[reporting], Path(folder))
                runs[phase, reporting, per_block].append(run)
    return [
        {
            "phase": phase,
            "reporting": reporting,
            "updates a block": per_block,
            "bare us": 1e6 * statistics.median(run["bare"] for run in measured),
            "fit us": 1e6 * statistics.median(looped := [run["looped"] for run in measured]),
            "spread %": 100 * spread(looped),
            "times bare": statistics.median(run["looped"] / run["bare"] for run in measured),
        }
        for (phase, reporting, per_block), measured in runs.items()
    ]


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.trainer_overhead", description=__doc__)
    parser.add_argument("--phases", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--scale", default="laptop", help="sizes of conf/scale (default: %(default)s)")
    parser.add_argument("--blocks", nargs="+", type=int, default=[1, 10, 50, 200], help="(default: %(default)s)")
    parser.add_argument("--updates", type=int, default=200, help="of each run (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each variant (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    with threads(options.threads):
        publish("trainer_overhead", {"Overhead": measure(options)}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
