"""Files that are written whole or not at all, sealed JSON, and arrays without pickles."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mbml_lightning.errors import MBMLError, ResultsError

FREE = "free disk space or correct the permissions"


@contextmanager
def naming(path: Path, error: type[MBMLError], remedy: str, done: str = "read") -> Iterator[None]:
    """Turn any failure in the block into one line: the file, what could not be ``done``, the reason and the remedy."""
    try:
        yield
    except MBMLError:
        raise
    except Exception as caught:  # parsers raise nearly anything on a damaged file
        cause = caught.__context__ if isinstance(caught, RuntimeError) else caught  # torch's writer hides the cause
        reason = getattr(cause, "strerror", None) or " ".join(f"{type(caught).__name__}: {caught}".split())
        raise error(f"{path}: cannot be {done} ({reason}); {remedy}") from caught


@contextmanager
def replacing(
    path: Path, error: type[MBMLError] = ResultsError, remedy: str = f"{FREE}, then try again"
) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of ``path`` once the block has ended; a failure keeps the earlier one.

    It is brought down to the disk before it is renamed, so that a kill or a full disk leaves the earlier file too.
    """
    partial = path.with_name(f".{path.name}.partial")
    with naming(path, error, f"{remedy}; an earlier file is kept", "written"):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with partial.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with replacing(path) as file:
        file.write(text.encode())


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed ``.npz``, whole or not at all."""
    with replacing(path) as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """Read all arrays of an ``.npz``, none of them by unpickling."""
    again = "run again what writes it"
    with naming(path, ResultsError, again), path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def read_sealed_json(path: Path, schema: int, error: type[MBMLError], remedy: str) -> dict[str, Any]:
    """Read a JSON file that holds its ``schema`` and, under ``sha256``, its `hash_json`; refuse any other."""
    with naming(path, error, remedy):
        content = json.loads(path.read_bytes())
        found = content.get("schema") if isinstance(content, dict) else None
        if found != schema:
            raise error(f"{path}: schema is {found!r}, but this version reads {schema} only; {remedy}")
        if content.get("sha256") != hash_json(content):
            raise error(f"{path}: its content is not that of its SHA-256: it was damaged or changed; {remedy}")
        return content


def hash_json(content: Mapping[str, Any]) -> str:
    """Compute the SHA-256 of plain data, of all but the key ``sha256`` itself and however the file is spaced.

    Raises:
        ValueError: JSON would give back something else: tuples, keys that are no text, numbers that are not finite.
    """
    rest = {name: value for name, value in content.items() if name != "sha256"}
    text = json.dumps(rest, sort_keys=True, allow_nan=False)
    if json.loads(text) != rest:
        raise ValueError("tuples and keys that are no text would come back as something else")
    return hashlib.sha256(text.encode()).hexdigest()
