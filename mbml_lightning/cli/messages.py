"""How a command says what is wrong: in a few lines that name it, without a traceback."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from textwrap import shorten

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningArgumentParser
from omegaconf.errors import OmegaConfBaseException

from mbml_lightning import ranks
from mbml_lightning.errors import CheckpointError, ConfigurationError, RelabellingError, ResultsError, StoreError

TRACEBACK = "MBML_TRACEBACK"
"""Environment variable: if it is set, errors end with their traceback and not with one line."""
REFUSED = (
    *(StoreError, ResultsError, CheckpointError, RelabellingError, ConfigurationError),
    *(MisconfigurationException, OmegaConfBaseException),
)
"""What says in one line what is wrong and what to do."""
UNASKED = (
    *("Subtypes:", "Given value type:", "Errors:", "Does not validate against any of the", "Expected a path but"),
    *("Expected a <class 'NoneType'>", "Expected a <class 'collections.abc.Iterable'>"),
    *("Subclass types expect", "a class path (str)", "a dict with"),
)
"""How jsonargparse's lines begin that tell of its types."""
WIDTH, LINES = 200, 8
"""What of a message is shown."""


class Parser(LightningArgumentParser):
    """Errors of a few lines, without the usage of two hundred options."""

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Say what is wrong and where help is."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        lines = [line for line in message.splitlines() if line.strip() and not line.lstrip(" -").startswith(UNASKED)]
        text = "\n".join(line[:WIDTH] for line in list(dict.fromkeys(lines))[:LINES])
        sys.stderr.write(f"{program}: error: {text}\nSee '{program} --help'.\n")
        self.exit(2)


@contextmanager
def in_one_line(what: str) -> Iterator[None]:
    """What others raise here comes of the configuration: say it as we do, and how to see where it was raised."""
    try:
        yield
    except REFUSED:
        raise
    except Exception as error:
        raise ConfigurationError(f"{what}: {one_line(error)} ({TRACEBACK}=1 shows where)") from error


@contextmanager
def ending_in_one_line() -> Iterator[None]:
    """End the process with what a user can mend; anything else keeps its traceback."""
    try:
        yield
    except Exception as error:
        if TRACEBACK in os.environ or not is_clear(error):
            raise
        speaker = f"mbml (rank {ranks.rank()})" if ranks.world_size() > 1 else "mbml"
        sys.exit(f"{speaker}: error: {one_line(error)}")


def is_clear(error: Exception) -> bool:
    """Whether a user can do something about it, or its cause is said by another rank."""
    if isinstance(error, OSError):
        return error.filename is not None
    return isinstance(error, (*REFUSED, FloatingPointError)) or is_of_wandb(error) or is_of_another_rank(error)


def is_of_wandb(error: Exception) -> bool:
    """Whether Weights & Biases raised it, which is imported only where it is used."""
    return type(error).__module__.partition(".")[0] == "wandb"


def is_of_another_rank(error: Exception) -> bool:
    """Whether a message to another rank failed."""
    return isinstance(error, RuntimeError) and ranks.world_size() > 1 and "by peer" in str(error)


def one_line(error: Exception) -> str:
    """Its message, with the file or the place in the configuration where the error knows it."""
    message = str(error)
    if isinstance(error, OmegaConfBaseException):
        message = f"{message.split(chr(10))[0]} (at {error.full_key})"
    elif isinstance(error, OSError) and error.filename is not None:
        message = f"{str(error.filename)[:WIDTH]}: {error.strerror}"
    elif is_of_wandb(error):
        message = f"Weights & Biases: {message}; set WANDB_MODE=offline, or look at the network and WANDB_BASE_URL"
    elif is_of_another_rank(error):
        message = "another rank has ended; what it said is above or in its log"
    return shorten(message, 5 * WIDTH, placeholder=" ...") or type(error).__name__
