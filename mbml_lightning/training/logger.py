"""The default logger: one line of JSON a call, appended, so that a resumed run keeps its history."""

import time
from io import SEEK_END, FileIO
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.log import log_line


class JSONLLogger(Logger):
    """``metrics.jsonl`` in the run's folder; needs no account and no network.

    Args:
        save_dir: The run's folder.
    """

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = Path(save_dir)
        self._file: FileIO | None = None

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
        """Append one line; unbuffered, so that a killed run has lost none.

        Raises:
            ResultsError: It cannot be written.
        """
        path = self._folder / "metrics.jsonl"
        try:
            if self._file is None:
                self._file = self._open(path)
            line = log_line({"step": step, "time": round(time.time(), 3), **metrics}).encode()
            while line:  # a disk may take a part of it, and say that it is full at the next part only
                line = line[self._file.write(line) :]
        except OSError as error:
            reason = f"cannot be written ({error.strerror or error})"
            raise ResultsError(
                f"{path}: {reason}; free disk space or correct the permissions, then go on with --ckpt_path last"
            ) from error

    def _open(self, path: Path) -> FileIO:
        """At its end, in a new line where a killed run left half of one."""
        self._folder.mkdir(parents=True, exist_ok=True)
        file = FileIO(path, "a+")
        if file.tell():
            file.seek(-1, SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        return file

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None
