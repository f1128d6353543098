"""Writing files whole or not at all, reading arrays without unpickling, and hashes of what files hold."""

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mbml_lightning.errors import ResultsError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name to write a file under, which is then renamed: it is written whole or not at all.

    Raises:
        ResultsError: It cannot be written; the file is as it was.
    """
    temporary = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        reason = f"cannot be written ({error.strerror or error})"
        raise ResultsError(f"{path}: {reason}; free disk space or correct the permissions, then try again") from error


def write_text(path: Path, text: str) -> None:
    """Write a whole text file or nothing."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def sha256_of(content: dict[str, Any]) -> str:
    """SHA-256 of everything else in the file, however it is spaced."""
    rest = {name: value for name, value in content.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz``, none of them unpickled.

    Raises:
        ResultsError: The file cannot be read.
    """
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError("no such file")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise ResultsError(f"{path}: cannot be read ({error}); run again what writes it") from None


def content_hash(content: Any) -> str:
    """SHA-256 of plain data and tensors, whatever file they come from."""
    found = hashlib.sha256()
    for part in _parts(content):
        found.update(part)
    return found.hexdigest()


def _parts(content: Any) -> Iterator[bytes | memoryview]:
    if isinstance(content, Tensor):
        yield f"{content.dtype}{tuple(content.shape)}".encode()
        yield content.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data
    elif isinstance(content, Mapping | list | tuple):
        yield f"{'mapping' if isinstance(content, Mapping) else 'sequence'}{len(content)}".encode()
        for item in content.items() if isinstance(content, Mapping) else content:
            yield from _parts(item)
    else:
        yield f"{type(content).__name__}:{content!r};".encode()
