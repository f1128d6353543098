"""A signal asks a run to stop; it is answered where nothing is lost."""

import signal
from types import FrameType
from typing import Any

from mbml_lightning import ranks

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
"""Ctrl-C, and what clusters send before the time of a job is up."""

_received: int | None = None
_previous: dict[int, Any] = {}


def asked() -> int | None:
    """The number of the first signal that came."""
    return _received


def agreed() -> bool:
    """Whether any rank was asked to stop; all ranks ask this together, and stop together."""
    number = max(ranks.gather(_received or 0))
    if number:
        ask(number)
    return number > 0


def forget() -> None:
    """Another run begins in this process."""
    global _received
    _received = None


def ask(number: int) -> None:
    """As if this process had got the signal that another rank got."""
    global _received
    _received = _received or number


def listen() -> None:
    """From now on the first signal is noted; a second one is Ctrl-C at once."""
    _previous.update({number: signal.signal(number, _note) for number in SIGNALS})


def leave() -> None:
    """Hand the signals back."""
    while _previous:
        signal.signal(*_previous.popitem())


def _note(number: int, frame: FrameType | None) -> None:
    if _received is not None:
        raise KeyboardInterrupt
    ask(number)
