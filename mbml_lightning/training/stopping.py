"""An orderly end of a run that a signal or a limit of time stops, with a checkpoint from which it can be resumed."""

import signal
import threading
from types import FrameType
from typing import Any, cast

import lightning as L
from lightning.pytorch.callbacks import Callback, Timer

from mbml_lightning import ranks

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1") if hasattr(signal, name)]
"""Ctrl-C, and what clusters send before the time of a job is up; Windows has no SIGUSR1."""


class StopSignal:
    """The first signal that asked this process to stop, noted without interrupting what it does."""

    def __init__(self) -> None:
        self.received: int | None = None  # its number
        self._handlers: dict[int, Any] = {}

    def install(self) -> None:
        """Note the first signal from now on; a second one raises `KeyboardInterrupt` at once.

        Only the main thread may handle signals: a training in another one leaves them to whoever started it.
        """
        if threading.current_thread() is not threading.main_thread():
            return
        self._handlers.update({number: signal.signal(number, self._note) for number in SIGNALS})

    def restore(self) -> None:
        """Give the signals back to their earlier handlers; what was received stays noted."""
        while self._handlers:
            signal.signal(*self._handlers.popitem())

    def clear(self) -> None:
        """Forget what an earlier run in this process received."""
        self.received = None

    def agreed(self) -> bool:
        """Tell whether any rank received a signal; must be called on all ranks together, so that all stop together."""
        number = max(ranks.gather(self.received or 0))
        self.received = self.received or number or None
        return number > 0

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            raise KeyboardInterrupt
        self.received = number


STOP = StopSignal()  # one, since signal handlers are the process's


def evaluation_is_due(trainer: L.Trainer) -> bool:
    """Tell whether Lightning validates after the current block."""
    return (trainer.fit_loop.total_batch_idx + 1) % cast(float, trainer.val_check_batch) == 0


class GracefulStop(Callback):
    """Ends the run after the current block when a signal comes, with a checkpoint; at once on a second signal."""

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Clear the signal when a run begins: that of an earlier run in this process is not for this one."""
        STOP.clear()

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Install our handlers before the first block, when Lightning has installed its own."""
        STOP.install()

    def on_train_batch_end(self, trainer: L.Trainer, *_: Any) -> None:
        """Stop after a block.

        Setting `should_stop` makes Lightning validate once more; suppress that unless an evaluation was due.
        """
        trainer.should_stop = STOP.agreed() or trainer.should_stop
        if STOP.received and not evaluation_is_due(trainer):
            trainer.limit_val_batches = 0

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Stop after a validation within the training, before Lightning begins another block."""
        if trainer.state.fn == "fit":
            trainer.should_stop = STOP.agreed() or trainer.should_stop

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Restore the handlers when the training is over; the checkpoint callback saves."""
        STOP.restore()

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        """Restore the handlers when an exception ends the training."""
        STOP.restore()


class TimeLimit(Timer):
    """Ends the run after the block in which the time of this process is up: a resumed run has all of it again.

    Lightning's `Timer` adds the times of all processes up, so that a run that it has ended would never go on.
    """

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Forget how long earlier processes took, where Lightning would restore it."""

    def on_train_batch_end(self, trainer: L.Trainer, *args: Any, **kwargs: Any) -> None:
        """Stop after a block, on all ranks together, without an evaluation unless one was due."""
        before = trainer.should_stop
        super().on_train_batch_end(trainer, *args, **kwargs)
        if trainer.should_stop and not before and not evaluation_is_due(trainer):
            trainer.limit_val_batches = 0


def is_over(callback: Callback) -> bool:
    """Tell whether a callback is a timer whose time is up."""
    return isinstance(callback, Timer) and (remaining := callback.time_remaining()) is not None and remaining <= 0
