"""A signal asks a run to stop; it is answered where nothing is lost."""

import signal
from types import FrameType
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback

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


def evaluation_is_due(trainer: L.Trainer) -> bool:
    """Whether Lightning evaluates after the block in hand."""
    return (trainer.fit_loop.total_batch_idx + 1) % cast(float, trainer.val_check_batch) == 0


class GracefulStop(Callback):
    """The first signal ends the run after the block in hand, with a checkpoint; a second one at once."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """What was asked of an earlier run in this process is not asked of this one."""
        forget()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Listen, after Lightning has set its own handlers."""
        listen()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Lightning evaluates before it stops, which only a due evaluation should."""
        trainer.should_stop = agreed() or trainer.should_stop
        if asked() and not evaluation_is_due(trainer):
            trainer.limit_val_batches = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Do not begin another block."""
        if trainer.state.fn == "fit":
            trainer.should_stop = agreed() or trainer.should_stop

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Hand the signals back; the checkpoint callback saves."""
        leave()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Likewise."""
        leave()
