"""Time of one update of each phase beside a plain reference, and beside what the machine's matrix products allow."""

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.agreement import check_agreement
from benchmarks.learners import PHASES, Learner, load_scale, make
from benchmarks.matrix_products import describe, product_rates
from benchmarks.measuring import DEFAULT, SETTINGS, Rows, alternate, gflop, publish, speed_up, spread, threads, under
from benchmarks.references import REFERENCES
from mbml_lightning.cli.run import quieten

OUR_AIMS = {
    "medium": {"sac": 2.5, "bcq": 1.9, "ensemble": 5, "mbml": 2},
    "bf16 autocast": {"sac": 3.5, "bcq": 3, "ensemble": 8, "mbml": 4},
}
AIMS = {("cpu", "paper", p, "ours", setting): aim for setting, aims in OUR_AIMS.items() for p, aim in aims.items()}
"""Times faster than the reference at torch's defaults, on two cores."""


def captured(call: Callable[[], object]) -> Callable[[], None]:
    """The call as one CUDA graph, on tensors that stay where they are."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def measure(phase: str, options: argparse.Namespace) -> tuple[Rows, Rows]:
    """The rows of one phase: its updates, and the drawing of its batches."""
    device = torch.device(options.device)
    learner = make(phase, options.distribution, options.num_tasks, load_scale(options.scale), device)
    ours, batch = learner.algorithm, learner.batches[0]
    reference = REFERENCES[phase](ours)
    check_agreement(ours, reference, learner.batches, tolerance=0.02)
    updates = {"reference": lambda: reference.update(batch), "ours": lambda: ours.update(batch)}
    work = {who: gflop(call) for who, call in updates.items()}
    calls = {(who, s.name): under(s, device, call) for who, call in updates.items() for s in SETTINGS}
    if device.type == "cuda":
        calls |= {("ours, CUDA graph", s.name): captured(calls["ours", s.name]) for s in SETTINGS}
        work["ours, CUDA graph"] = work["ours"]
    samples = alternate(calls, options.rounds, device)
    rates = product_rates(learner.widest, options.rounds, device)
    rows = [
        {
            "phase": phase,
            "update": who,
            "setting": setting,
            **speed(seconds, work[who], rates[setting]),
            "times faster": speed_up(samples["reference", DEFAULT.name], seconds),
            "aim": AIMS.get((options.device, options.scale, phase, who, setting), ""),
        }
        for (who, setting), seconds in samples.items()
    ]
    return rows, [drawing(phase, learner, min(row["ms"] for row in rows), options.rounds)]


def speed(seconds: list[float], work: float, rate: float) -> dict[str, float]:
    """Columns of one variant.

    Args:
        seconds: Samples of an update.
        work: Its GFLOP.
        rate: GFLOP/s of the phase's widest layer alone.
    """
    median = statistics.median(seconds)
    return {
        "ms": 1e3 * median,
        "spread %": 100 * spread(seconds),
        "updates/s": 1 / median,
        "GFLOP": work,
        "GFLOP/s": work / median,
        "product rate": rate,
        "% of it": 100 * work / median / rate,
    }


def drawing(phase: str, learner: Learner, fastest: float, rounds: int) -> dict[str, Any]:
    """How long drawing the rows of an update takes, beside the fastest update."""
    ours, rows = learner.algorithm, learner.rows
    generator = torch.Generator(rows.packed.device).manual_seed(0)
    draw = functools.partial(rows.draw, generator, ours.batch_size, ours.context_rows)
    ms = 1e3 * statistics.median(alternate({"draw": draw}, rounds, rows.packed.device)["draw"])
    return {"phase": phase, "ms": ms, "% of the fastest update": 100 * ms / fastest, "aim": "< 2"}


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.step_time", description=__doc__)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--scale", default="paper", help="sizes of conf/scale (default: %(default)s)")
    parser.add_argument("--distribution", default="UmazeGoalM", help="gives K, S and A (default: %(default)s)")
    parser.add_argument("--num-tasks", type=int, help="fewer tasks than the distribution's")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each variant (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    quieten()
    with threads(options.threads):
        measured = [measure(phase, options) for phase in options.phases]
        tables = {
            "Updates": [row for rows, _ in measured for row in rows],
            "Drawing": [row for _, rows in measured for row in rows],
            "Matrix products": describe(options.rounds, torch.device(options.device)),
        }
        publish("step_time", tables, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
