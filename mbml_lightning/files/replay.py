"""A growing replay on disk: steps are appended, so that a checkpoint need not hold what earlier ones did."""

import hashlib
import os
from collections.abc import Iterator
from errno import ENOENT
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.errors import StoreError

NUMBERS = np.dtype("<f4")
CHUNK = 1 << 24
"""Numbers read at once."""


class ReplayFile:
    """Steps of K tasks, ``(T, K, D)`` float32 without a header, in the order in which they were taken.

    A checkpoint knows how many steps it belongs to and their SHA-256. Steps that it knows are never written again, so
    that a run killed at any moment finds them whole; what a killed run wrote beyond them is overwritten.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.kept, self._hash = path, 0, hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of all kept steps."""
        return self._hash.hexdigest()

    def append(self, steps: Float[Tensor, "T K D"]) -> None:
        """Keep further steps; the first ones begin the file anew.

        Raises:
            StoreError: The file cannot be written; nothing that was kept has changed.
        """
        numbers = np.ascontiguousarray(steps.cpu().numpy(), NUMBERS)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.kept else "wb") as file:
                file.seek(self.kept * numbers[0].nbytes if len(numbers) else 0)
                file.write(numbers.data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; free disk space or correct the permissions") from error
        self._hash.update(numbers.data)
        self.kept += len(numbers)

    def steps(self, count: int, tasks: int, width: int) -> Float[np.ndarray, "T K D"]:
        """A map of the first ``count`` steps, which were kept."""
        return np.memmap(self.path, NUMBERS, "c", shape=(count, tasks, width))

    def read(self, count: int, digest: str, tasks: int, width: int) -> Iterator[Float[Tensor, "T K D"]]:
        """The first ``count`` steps in chunks; appending goes on after them.

        Raises:
            StoreError: The file is missing, shorter, or of other steps; said after the last chunk at the latest.
        """
        self.kept, self._hash = 0, hashlib.sha256()
        remedy = "the checkpoint beside it belongs to other steps; collect anew"
        try:
            if not self.path.is_file():  # a pipe would be waited for
                raise FileNotFoundError(ENOENT, os.strerror(ENOENT))
            with self.path.open("rb") as file:
                while self.kept < count:
                    steps = min(count - self.kept, max(1, CHUNK // (tasks * width)))
                    numbers = np.fromfile(file, NUMBERS, steps * tasks * width)
                    if numbers.size < steps * tasks * width:
                        raise StoreError(f"{self.path}: ends before step {count}; {remedy}")
                    self._hash.update(numbers.data)
                    self.kept += steps
                    yield torch.from_numpy(numbers.reshape(steps, tasks, width))
        except OSError as error:
            raise StoreError(f"{self.path}: {error.strerror}; {remedy}") from error
        if self.digest != digest:
            raise StoreError(f"{self.path}: SHA-256 of its first {count} steps differs; {remedy}")
