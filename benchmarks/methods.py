"""Time of one update of each method that infers its task, beside MBML's."""

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.learners import STUDENTS, attach, learners, load_scale, synthetic_rows
from benchmarks.measuring import Rows, alternate, gflop, publish, speed_up, spread, threads
from mbml_lightning.cli.main import quieten


def measure(scale_name: str, options: argparse.Namespace) -> Rows:
    """A row a method: its update, and how many of MBML's it takes."""
    torch.manual_seed(0)
    device, scale = torch.device("cpu"), load_scale(scale_name)
    rows = synthetic_rows(options.distribution, options.num_tasks, scale.interactions, device)
    methods = learners(options.distribution, options.num_tasks, scale, rows, STUDENTS)
    calls = {}
    for name, method in methods.items():
        attach(method)
        batch = rows.draw(torch.Generator().manual_seed(0), method.batch_size, method.context_rows)
        calls[name] = lambda method=method, batch=batch: method.update(batch)
    samples = alternate(calls, options.rounds, device)
    return [
        {
            "scale": scale_name,
            "method": name,
            "ms": 1e3 * statistics.median(seconds),
            "spread %": 100 * spread(seconds),
            "of MBML's": speed_up(seconds, samples["mbml"]),
            "GFLOP": gflop(calls[name]),
        }
        for name, seconds in samples.items()
    ]


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.methods", description=__doc__)
    parser.add_argument("--scales", nargs="+", default=["laptop", "paper"], help="of conf/scale (default: %(default)s)")
    parser.add_argument("--distribution", default="UmazeGoalM", help="gives K, S and A (default: %(default)s)")
    parser.add_argument("--num-tasks", type=int, help="fewer tasks than the distribution's")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each method (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    quieten()
    with threads(options.threads):
        rows = [row for scale in options.scales for row in measure(scale, options)]
    publish("methods", {"Updates": rows}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
