"""The replay of a collection on disk: steps are appended, so that checkpoints need not hold them."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.errors import StoreError
from mbml_lightning.files.writing import FREE, naming

NUMBERS = np.dtype("<f4")
CHUNK = 1 << 24
"""Numbers read at once."""


class ReplayFile:
    """Steps of K tasks, ``(T, K, D)`` float32 without a header, in the order in which they were taken.

    A checkpoint records how many steps it belongs to and their SHA-256. Those are never written again, so that a
    resumed run finds them whole; it overwrites what the killed run wrote beyond them.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.kept, self._hash = path, 0, hashlib.sha256()

    @property
    def digest(self) -> str:
        """SHA-256 of all kept steps."""
        return self._hash.hexdigest()

    def append(self, steps: Float[Tensor, "T K D"]) -> None:
        """Append steps and bring them down to the disk; the first ones begin the file anew."""
        numbers = np.ascontiguousarray(steps.cpu().numpy(), NUMBERS)
        with naming(self.path, StoreError, f"{FREE}, then go on with --ckpt_path last", "written"):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("r+b" if self.kept else "wb") as file:
                file.seek(self.kept * numbers[0].nbytes if len(numbers) else 0)
                file.write(numbers.data)
                file.flush()
                os.fsync(file.fileno())
        self._hash.update(numbers.data)
        self.kept += len(numbers)

    def steps(self, count: int, tasks: int, width: int) -> Float[np.ndarray, "T K D"]:
        """Map the first ``count`` kept steps into memory."""
        return np.memmap(self.path, NUMBERS, "c", shape=(count, tasks, width))

    def read(self, count: int, digest: str, tasks: int, width: int) -> Iterator[Float[Tensor, "T K D"]]:
        """Read the first ``count`` steps in chunks; later steps are appended after them.

        Raises:
            StoreError: The file is missing, shorter, or holds other steps; raised after the last chunk at the latest.
        """
        self.kept, self._hash = 0, hashlib.sha256()
        remedy = "the checkpoint beside it belongs to other steps; collect anew"
        with naming(self.path, StoreError, remedy), self.path.open("rb") as file:
            while self.kept < count:
                steps = min(count - self.kept, max(1, CHUNK // (tasks * width)))
                numbers = np.fromfile(file, NUMBERS, steps * tasks * width)
                if numbers.size < steps * tasks * width:
                    raise StoreError(f"{self.path}: ends before step {count}; {remedy}")
                self._hash.update(numbers.data)
                self.kept += steps
                yield torch.from_numpy(numbers.reshape(steps, tasks, width))
        if self.digest != digest:
            raise StoreError(f"{self.path}: SHA-256 of its first {count} steps differs; {remedy}")
