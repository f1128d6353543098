"""Errors that a user can correct: each says in one line what is wrong, where, and what to do."""

LONGEST = 1000  # characters of a message; it may quote anything that stands in a file


class MBMLError(ValueError):
    """Something that the user can correct; commands print its message as one line, without a traceback.

    Unprintable characters are escaped, and the middle of a very long message is cut.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")


class ConfigurationError(MBMLError):
    """An argument, or a combination of arguments, that cannot be run."""


class RelabellingError(MBMLError):
    """A request to relabel transitions that the data or the tasks do not allow."""


class CheckpointError(MBMLError):
    """A checkpoint that is missing or damaged, that does not fit, or that cannot be written."""


class ResultsError(MBMLError):
    """A result file (evaluation, log, picture) that cannot be read or written."""


class StoreError(MBMLError):
    """A data store or replay that cannot be read, trusted or written."""
