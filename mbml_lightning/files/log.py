"""The log of a training: ``metrics.jsonl``, one JSON object a line, appended to by every process that trained."""

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import SEEK_END, FileIO
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import FREE, naming


class LogFile:
    """A log that is appended to, so that a resumed run keeps its history."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: FileIO | None = None

    def append(self, step: int | None, metrics: Mapping[str, float]) -> None:
        """Write one line, unbuffered, so that a killed run has lost none."""
        line = f"{json.dumps({'step': step, 'time': round(time.time(), 3), **metrics})}\n".encode()
        with naming(self.path, ResultsError, f"{FREE}, then go on with --ckpt_path last", "written"):
            self._file = self._file or self._open()
            while line:  # a full disk may take a part of it, and fail at the next part only
                line = line[self._file.write(line) :]

    def _open(self) -> FileIO:
        """Open the file for appending; start a new line if a killed run left a partial one."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = FileIO(self.path, "a+")
        if file.tell():
            file.seek(-1, SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        return file

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None


@dataclass(frozen=True, eq=False)
class Curve:
    """One metric against updates, steps ascending, each once."""

    steps: Int64[np.ndarray, " n"]
    values: Float64[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class Metrics:
    """All curves of a run.

    Args:
        curves: By the name of the metric; of a step logged twice (a resumed run) the last value.
        seconds: Duration of the updates logged: the median time of one times their number, so that neither
            evaluations nor the pause before a run was resumed count. NaN where the log has too few times.
        problems: One line for each damaged line but the last, which a kill may cut short.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    seconds: float = np.nan
    problems: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "Metrics":
        """Read a log, whose lines have ``step`` and ``time`` in seconds."""
        with naming(path, ResultsError, "train again"):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        parsed = [_parse(line) for line in lines]
        problems = [f"{path}: line {i} is damaged and left out" for i, line in enumerate(parsed[:-1], 1) if not line]
        points: dict[str, dict[int, float]] = {}
        for line in filter(None, parsed):
            for name in line.keys() - {"step", "time"}:
                points.setdefault(name, {})[int(line["step"])] = line[name]
        ordered = {name: sorted(values.items()) for name, values in points.items()}
        curves = {name: Curve(*(np.array(x) for x in zip(*pairs, strict=True))) for name, pairs in ordered.items()}
        return cls(curves, _seconds(parsed), problems)


def _parse(line: str) -> dict[str, float] | None:
    """Read the numbers of one line; None if it is damaged."""
    try:
        # earlier versions wrote a checksum
        values = {name: float(value) for name, value in json.loads(line).items() if name != "crc32"}
        return values if 0 <= values["step"] < np.inf else None
    except Exception:  # a damaged line may hold anything
        return None


def _seconds(lines: list[dict[str, float] | None]) -> float:
    """Estimate the duration of all updates from the median time of one."""
    timed = np.array([(line["step"], line["time"]) for line in lines if line and "time" in line]).reshape(-1, 2)
    steps, times = np.diff(timed, axis=0).T
    if not (steps > 0).any():
        return np.nan
    return float(np.median(times[steps > 0] / steps[steps > 0]) * timed[:, 0].max())
