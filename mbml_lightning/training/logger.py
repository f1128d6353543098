"""The default logger of a run, which needs no account and no network."""

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mbml_lightning.files.log import LogFile


class JSONLLogger(Logger):
    """``metrics.jsonl`` in the run's folder ``save_dir``, one line of JSON a call."""

    def __init__(self, save_dir: str) -> None:
        super().__init__()
        self._folder = Path(save_dir)
        self._file = LogFile(self._folder / "metrics.jsonl")

    @property
    def name(self) -> str:
        """An empty name: what Lightning saves below loggers' names lies in the run's folder itself."""
        return ""

    @property
    def version(self) -> str:
        """An empty name: the folder is the run."""
        return ""

    @property
    def save_dir(self) -> str:
        """Folder of the run, where Lightning saves too."""
        return str(self._folder)

    @rank_zero_only
    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Leave hyperparameters out: ``config.yaml`` holds them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append one line to the log."""
        self._file.append(step, metrics)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file when Lightning ends a run."""
        self._file.close()
