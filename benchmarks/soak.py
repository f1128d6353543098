"""Whether a long training keeps its memory and its open files: `mbml fit` of MBML, watched from outside."""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kill_campaign import command, prepare
from benchmarks.measuring import Rows, publish, threads
from mbml_lightning.files.checkpoints import Checkpoint

OFTEN = ["--model.updates_per_block=50", "--checkpoint.every_n_updates=200", "--trainer.val_check_interval=10"]
ENDLESS = 10**9
INTERVAL = 2.0
"""Seconds between samples."""
SETTLED = 5.0
"""Minutes until memory should no longer grow."""
ALLOWED = 0.05
"""Growth of memory from then on."""
PATIENCE = 300
"""Seconds that a run may take to stop."""


@dataclass(frozen=True)
class Sample:
    """What a process holds at a moment.

    Args:
        minutes: Since its start.
        memory: Resident, in MB.
        files: That are open.
        threads: That it has.
        updates: That it has made.
        evaluations: That it has made.
    """

    minutes: float
    memory: float
    files: int
    threads: int
    updates: int
    evaluations: int

    def row(self, when: str) -> dict[str, Any]:
        """Of the table."""
        return dict(zip(COLUMNS, (when, *astuple(self)), strict=True))


COLUMNS = ("when", "minutes", "memory MB", "open files", "threads", "updates", "evaluations")


class Log:
    """How far a run is, by the lines that its log has grown by.

    Args:
        path: ``metrics.jsonl``.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.read, self.updates, self.evaluations = path, 0, 0, 0

    def follow(self) -> None:
        """Read on."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.read)
            whole = file.read().rpartition(b"\n")[0]
        for line in whole.splitlines():
            values = json.loads(line)
            self.updates = values["step"]
            self.evaluations += "val/return_test" in values
        self.read += len(whole) + bool(whole)


def sample(process: int, started: float, log: Log) -> Sample:
    """Look at a process from outside."""
    log.follow()
    folder = Path("/proc", str(process))
    status = dict(line.split(":\t", 1) for line in (folder / "status").read_text().splitlines() if ":\t" in line)
    memory = int(status["VmRSS"].split()[0]) / 1024
    minutes, files = (time.perf_counter() - started) / 60, len(os.listdir(folder / "fd"))
    return Sample(minutes, memory, files, int(status["Threads"]), log.updates, log.evaluations)


def watch(run: Path, words: Sequence[str], minutes: float) -> tuple[list[Sample], list[str]]:
    """Train for so long, then ask it to stop; the samples, and what was wrong with its end."""
    started, samples, log = time.perf_counter(), [], Log(run / "metrics.jsonl")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with subprocess.Popen([sys.executable, "-m", "mbml_lightning", *words], env=environment) as process:
        try:
            while process.poll() is None and time.perf_counter() - started < 60 * minutes:
                time.sleep(INTERVAL)
                samples.append(sample(process.pid, started, log))
            process.send_signal(signal.SIGTERM)
            process.wait(PATIENCE)
        finally:
            process.kill()  # nothing, if it has ended
    log.follow()
    return samples, end(run, process.returncode, log.updates)


def end(run: Path, code: int, updates: int) -> list[str]:
    """What is wrong with how a run stopped."""
    kept = Checkpoint.read(run / "last.ckpt").content["global_step"]
    wrong = [f"it ended with {code}"] if code not in (0, 128 + signal.SIGTERM) else []
    return wrong + ([f"its checkpoint is of {kept} updates, and {updates} were made"] if kept != updates else [])


def moments(samples: list[Sample]) -> Rows:
    """The table: start, first evaluation, every five minutes, end."""
    first = [s.row("after the first evaluation") for s in samples if s.evaluations][:1]
    last = samples[-1].minutes
    every = [next(s for s in samples if s.minutes >= m) for m in np.arange(SETTLED, last, SETTLED)]
    return [samples[0].row("start"), *first, *(s.row("") for s in every), samples[-1].row("end")]


def growth(samples: list[Sample]) -> tuple[Rows, list[str]]:
    """From when the process has settled to the end, by medians over a while; and what has grown too much."""
    last = samples[-1].minutes
    settled, width = min(SETTLED, last / 2), min(1.0, last / 8)
    before = [s for s in samples if settled <= s.minutes <= settled + width] or samples
    after = [s for s in samples if s.minutes >= last - width]
    half = [s for s in samples if s.minutes >= last / 2]
    rows, wrong = [], []
    measures: dict[str, tuple[Callable[[Sample], float], float]] = {
        "memory MB": (lambda s: s.memory, ALLOWED),
        "open files": (lambda s: s.files, 0.0),
        "threads": (lambda s: s.threads, 0.0),
    }
    for name, (of, allowed) in measures.items():
        a, b = (statistics.median(map(of, part)) for part in (before, after))
        slope = np.polyfit([s.minutes / 60 for s in half], [of(s) for s in half], 1)[0]
        rows.append({"": name, "settled": a, "end": b, "growth %": 100 * (b / a - 1), "an hour": float(slope)})
        wrong += [f"{name} grew from {a:.1f} to {b:.1f}"] if b > a * (1 + allowed) else []
    return rows, wrong


def main(words: Sequence[str]) -> None:
    """Train, watch and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0, help="(default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    with tempfile.TemporaryDirectory() as folder, threads(1):
        run = Path(folder, "run")
        prepare(Path(folder))
        samples, wrong = watch(run, [*command("mbml", Path(folder), run, ENDLESS), *OFTEN], options.minutes)
        grown, too_much = growth(samples)
        publish("soak", {"Samples": moments(samples), "Growth": grown}, words, options.output)
    if wrong := wrong + too_much:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
