"""Timing discipline: warm up, take turns, report medians and spreads, and say on what machine and how set."""

import csv
import os
import platform
import shlex
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

Rows = list[dict[str, Any]]

SHORTEST_SAMPLE = 0.2
"""Seconds; faster calls are repeated within a sample, so that caches are as warm as in a long run."""


@dataclass(frozen=True)
class Setting:
    """How matrix products are computed.

    Args:
        name: As in the tables.
        precision: Of ``torch.set_float32_matmul_precision``; "highest" is torch's default.
        autocast: Whether bfloat16 autocast is on.
    """

    name: str
    precision: str
    autocast: bool

    @contextmanager
    def active(self, device: torch.device) -> Iterator[None]:
        """Compute so within the block."""
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision(self.precision)
        try:
            with torch.autocast(device.type, torch.bfloat16, enabled=self.autocast):
                yield
        finally:
            torch.set_float32_matmul_precision(before)


DEFAULT = Setting("torch's default", "highest", False)
SETTINGS = (DEFAULT, Setting("medium", "medium", False), Setting("bf16 autocast", "highest", True))


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Let torch use ``count`` threads within the block, as many as it likes if None."""
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def under(setting: Setting, device: torch.device, call: Callable[[], object]) -> Callable[[], None]:
    """The call under a setting."""

    def run() -> None:
        with setting.active(device):
            call()

    return run


def alternate(calls: Mapping[Any, Callable[[], object]], rounds: int, device: torch.device) -> dict[Any, list[float]]:
    """Seconds a call, one sample a round; in a round all take their turn, so that a busy machine slows all alike."""
    repeats = {}
    for name, call in calls.items():
        call()
        repeats[name] = max(1, round(SHORTEST_SAMPLE / _seconds(call, 1, device)))
    samples: dict[Any, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            samples[name].append(_seconds(call, repeats[name], device))
    return samples


def _seconds(call: Callable[[], object], repeats: int, device: torch.device) -> float:
    _wait(device)
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    _wait(device)
    return (time.perf_counter() - start) / repeats


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(samples: list[float]) -> float:
    """Range of the samples as a share of their median."""
    return (max(samples) - min(samples)) / statistics.median(samples)


def speed_up(slow: list[float], fast: list[float]) -> float:
    """Median over rounds of how many times ``fast`` is faster."""
    return statistics.median(s / f for s, f in zip(slow, fast, strict=True))


def gflop(call: Callable[[], object]) -> float:
    """Billions of floating-point operations of the call's matrix products."""
    with FlopCounterMode(display=False) as counter:
        call()
    return float(counter.get_total_flops()) / 1e9


def machine() -> str:
    """What the numbers were measured on, and how busy it was."""
    cpu = platform.processor() or platform.machine()
    if (info := Path("/proc/cpuinfo")).exists():
        cpu = next((line.split(": ")[1] for line in info.read_text().splitlines() if "model name" in line), cpu)
    gpu = f"; {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    versions = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "mujoco", "numpy"))
    return (
        f"{cpu}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}{gpu}; torch threads {torch.get_num_threads()}, "
        f"instructions {torch.backends.cpu.get_cpu_capability()}; Python {platform.python_version()}, {versions}"
    )


def table(rows: Rows) -> str:
    """The rows in Markdown."""
    cells = [list(rows[0]), ["---"] * len(rows[0]), *([_cell(x) for x in row.values()] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _cell(x: Any) -> str:
    return str(x) if not isinstance(x, float) else f"{x:.3g}" if abs(x) < 1000 else f"{x:.0f}"


def publish(name: str, tables: Mapping[str, Rows], words: Sequence[str], folder: Path | None) -> None:
    """Print a report, and write it to ``folder`` as ``name.md`` and one CSV file a table.

    Args:
        name: Of the benchmark's module.
        tables: Rows under their heading.
        words: Of the command line.
        folder: Where the report goes to, if anywhere.
    """
    parts = [f"# {name}", machine(), f"`{shlex.join(['python', '-m', f'benchmarks.{name}', *words])}`"]
    text = "\n\n".join([*parts, *(f"## {heading}\n\n{table(rows)}" for heading, rows in tables.items())])
    print(text)
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    for heading, rows in tables.items():
        path = folder / f"{name}-{heading.lower().replace(' ', '-')}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
