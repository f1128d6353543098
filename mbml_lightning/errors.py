"""Errors that a user can mend: each says in one line what is wrong, where, and what to do."""


class MBMLError(ValueError):
    """Something that the user can correct; commands print its message as one line, without a traceback."""


class ConfigurationError(MBMLError):
    """An argument, or a combination of arguments, that cannot be run."""


class RelabellingError(MBMLError):
    """A request to relabel transitions that the data or the tasks do not allow."""


class CheckpointError(MBMLError):
    """A checkpoint that is missing, damaged, or made by something else than what is asked for."""


class ResultsError(MBMLError):
    """A result file (evaluation, log, picture) that cannot be read or written."""


LONGEST = 1000  # characters of a store's error line


class StoreError(MBMLError):
    """A data store that cannot be written or trusted.

    It may quote anything that stands in a file: unprintable characters are escaped, the middle of a long line is cut.
    """

    def __init__(self, message: str) -> None:
        line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in message)
        super().__init__(line if len(line) <= LONGEST else f"{line[: LONGEST // 2]} ... {line[-LONGEST // 3 :]}")
