"""The default logger: one line of JSON a call, appended, so that a resumed run keeps its history."""

import json
import time
from pathlib import Path
from typing import Any, TextIO

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only


class JSONLLogger(Logger):
    """``metrics.jsonl`` in the run's folder; needs no account and no network.

    Args:
        save_dir: The run's folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = Path(save_dir)
        self._file: TextIO | None = None

    @property
    def name(self) -> str:
        """The folder's name."""
        return self._folder.name

    @property
    def version(self) -> str:
        """None of its own: the folder is the run."""
        return ""

    @property
    def save_dir(self) -> str:
        """The run's folder."""
        return str(self._folder)

    @property
    def log_dir(self) -> str:
        """The run's folder, where Lightning saves the configuration too."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Nothing: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line; line-buffered, so that a killed run has lost none."""
        if self._file is None:
            self._folder.mkdir(parents=True, exist_ok=True)
            path = self._folder / "metrics.jsonl"
            cut = path.exists() and not path.read_bytes().endswith(b"\n")
            self._file = path.open("a", buffering=1, encoding="utf-8")
            self._file.write("\n" * cut)  # a killed run may have left half a line
        self._file.write(json.dumps({"step": step, "time": round(time.time(), 3), **metrics}) + "\n")

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
