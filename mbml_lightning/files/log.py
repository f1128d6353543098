"""What a training logged: ``metrics.jsonl``, one JSON object a line, appended to by every process that trained."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float64, Int64

from mbml_lightning.errors import ResultsError


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
            evaluations nor the pause before a run was resumed count. NaN where the log does not tell.
        problems: One line for each damaged line but the last, which a kill may cut short.
    """

    curves: dict[str, Curve] = field(default_factory=dict)
    seconds: float = np.nan
    problems: list[str] = field(default_factory=list)

    @classmethod
    def load(cls, path: Path) -> "Metrics":
        """Read ``metrics.jsonl``; every line has ``step`` and ``time`` in seconds.

        Raises:
            ResultsError: The file cannot be read.
        """
        try:
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError as error:
            raise ResultsError(f"{path}: cannot be read ({error})") from None
        parsed = [_parse(line) for line in lines]
        problems = [f"{path}: line {i} is damaged and left out" for i, line in enumerate(parsed[:-1], 1) if not line]
        points: dict[str, dict[int, float]] = {}
        for line in filter(None, parsed):
            for name in line.keys() - {"step", "time"}:
                points.setdefault(name, {})[int(line["step"])] = line[name]
        return cls({name: _curve(values) for name, values in points.items()}, _seconds(parsed), problems)


CHECK = ', "crc32": "'
"""Stands between what a line says and the CRC-32 of that, so that a damaged line is not believed."""


def log_line(values: Mapping[str, int | float | None]) -> str:
    """One line of the log."""
    said = json.dumps(dict(values))[:-1]
    return f'{said}{CHECK}{zlib.crc32(said.encode()):08x}"}}\n'


def _parse(line: str) -> dict[str, float] | None:
    said, _, check = line.rpartition(CHECK)
    if said:
        line = f"{said}}}" if check == f'{zlib.crc32(said.encode()):08x}"}}' else ""
    try:
        values = {name: float(value) for name, value in json.loads(line).items()}
        return values if 0 <= values["step"] < np.inf else None
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError):
        return None


def _curve(values: dict[int, float]) -> Curve:
    steps = sorted(values)
    return Curve(np.array(steps, dtype=np.int64), np.array([values[step] for step in steps]))


def _seconds(lines: list[dict[str, float] | None]) -> float:
    timed = np.array([(line["step"], line["time"]) for line in lines if line and "time" in line]).reshape(-1, 2)
    steps, times = np.diff(timed, axis=0).T
    if not (steps > 0).any():
        return np.nan
    return float(np.median(times[steps > 0] / steps[steps > 0]) * timed[:, 0].max())
