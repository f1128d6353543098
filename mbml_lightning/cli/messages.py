"""Errors as one line without a traceback, for those that the user can correct."""

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from mbml_lightning.errors import ConfigurationError, MBMLError

TRACEBACK = "MBML_TRACEBACK"
"""Environment variable: if it is set, errors end with their traceback and not with one line."""
OF_EARLY_STOPPING = "Early stopping conditioned on metric"
"""How Lightning's EarlyStopping begins to say which metrics there are."""
OF_NO_TYPE = "Does not validate against any of the Union subtypes"
NOT_MADE = re.compile(r"Problem with given class_path '(.+?)':\s*(.+)")
"""How jsonargparse begins, and where it says why a class could not be made."""
WIDTH = 200
"""Characters of a quoted path or line; a message has five times as many."""


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """End the process with one line if the user can correct the error; any other error keeps its traceback."""
    try:
        yield
    except Exception as error:
        line, is_clear = one_line(error)
        if TRACEBACK in os.environ or not is_clear:
            raise
        sys.exit(f"{speaker()}: error: {line}")


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """Turn whatever other packages raise here, because of the configuration, into a `ConfigurationError`."""
    try:
        yield
    except Exception as error:
        line, is_clear = one_line(error)
        if is_clear and not isinstance(error, OSError):
            raise
        if line.startswith(OF_NO_TYPE):
            line = cause(error)
        raise ConfigurationError(f"{what}: {line} ({TRACEBACK}=1 shows where)") from error


def cause(error: BaseException) -> str:
    """Find what a class says that cannot be made, below what jsonargparse says of the types that it then tries."""
    said = NOT_MADE.findall(str(error))
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return shorten(f"{said[-1][0]}: {said[-1][1]}" if said else str(error), 5 * WIDTH, placeholder=" ...")


def speaker() -> str:
    """Name this process, with its rank if there are several; without PyTorch there is one."""
    if "torch" not in sys.modules:
        return "mbml"
    from mbml_lightning import ranks

    return f"mbml (rank {ranks.rank()})" if ranks.world_size() > 1 else "mbml"


def one_line(error: Exception) -> tuple[str, bool]:
    """Shorten an error to one line, and tell whether that is enough without the place where it was raised.

    The classes of other packages are known by name: importing them would take seconds.
    """
    package, message, is_clear = type(error).__module__.partition(".")[0], str(error), True
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{str(error.filename)[:WIDTH]}: {error.strerror}"
    elif package == "omegaconf":
        message = f"{message.partition(chr(10))[0]} (at {getattr(error, 'full_key', None)})"
    elif package == "wandb":
        message = f"Weights & Biases: {message}; set WANDB_MODE=offline, or look at the network and WANDB_BASE_URL"
    elif isinstance(error, RuntimeError) and "by peer" in message and "(rank" in speaker():
        message = "another rank has ended; what it said is above or in its log"
    else:
        is_clear = isinstance(error, MBMLError | FloatingPointError)
        is_clear |= type(error).__name__ == "MisconfigurationException" or message.startswith(OF_EARLY_STOPPING)
    return shorten(message, 5 * WIDTH, placeholder=" ...") or type(error).__name__, is_clear
