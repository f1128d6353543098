"""Errors as one line without a traceback, for those that the user can correct."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from mbml_lightning.errors import ConfigurationError, MBMLError

TRACEBACK = "MBML_TRACEBACK"
"""Environment variable: if it is set, errors end with their traceback and not with one line."""
WIDTH = 200
"""Characters of a quoted path or line; a message has five times as many."""


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """End the process with one line if the user can correct the error; any other error keeps its traceback."""
    try:
        yield
    except Exception as error:
        if TRACEBACK in os.environ or not is_clear(error):
            raise
        sys.exit(f"{speaker()}: error: {one_line(error)}")


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turn whatever other packages raise here, because of the configuration, into a `ConfigurationError`."""
    try:
        yield
    except Exception as error:
        if is_clear(error) and not isinstance(error, OSError):
            raise
        raise ConfigurationError(f"{what}: {one_line(error)} ({TRACEBACK}=1 shows where)") from error


def is_clear(error: Exception) -> bool:
    """Tell whether the message of an error is enough, without the place where it was raised.

    The classes of other packages are known by name: importing them would take seconds.
    """
    if isinstance(error, OSError):
        return error.filename is not None
    foreign = package(error) in ("omegaconf", "wandb") or type(error).__name__ == "MisconfigurationException"
    return foreign or isinstance(error, MBMLError | FloatingPointError) or is_of_another_rank(error)


def package(error: Exception) -> str:
    """Name the package whose error this is."""
    return type(error).__module__.partition(".")[0]


def is_of_another_rank(error: Exception) -> bool:
    """Tell whether a message to another rank failed, because that rank has ended."""
    return isinstance(error, RuntimeError) and "by peer" in str(error) and "(rank" in speaker()


def speaker() -> str:
    """Name this process, with its rank if there are several; without PyTorch there is one."""
    if "torch" not in sys.modules:
        return "mbml"
    from mbml_lightning import ranks

    return f"mbml (rank {ranks.rank()})" if ranks.world_size() > 1 else "mbml"


def one_line(error: Exception) -> str:
    """Shorten an error to one line that names the file, or the place in the configuration, if the error knows it."""
    message = str(error)
    if package(error) == "omegaconf":
        message = f"{message.partition(chr(10))[0]} (at {getattr(error, 'full_key', None)})"
    elif isinstance(error, OSError) and error.filename is not None:
        message = f"{str(error.filename)[:WIDTH]}: {error.strerror}"
    elif package(error) == "wandb":
        message = f"Weights & Biases: {message}; set WANDB_MODE=offline, or look at the network and WANDB_BASE_URL"
    elif is_of_another_rank(error):
        message = "another rank has ended; what it said is above or in its log"
    return shorten(message, 5 * WIDTH, placeholder=" ...") or type(error).__name__
