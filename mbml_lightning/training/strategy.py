"""How Lightning runs several ranks: side by side, and the methods say what travels between them."""

import os
import signal
import threading
import time
from datetime import timedelta
from typing import Any

from lightning.fabric.plugins.environments.lightning import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from mbml_lightning import ranks

STARTED_BY = "MBML_STARTED_BY"
"""Environment variable: the process that started a rank."""


class Ranks(DDPStrategy):
    """Data-parallel training without the wrapper around the module.

    Torch's wrapper averages the gradients of every ``backward`` and gives all ranks the weights of rank 0. Here tasks
    that have nothing in common stay on their rank, and where gradients are averaged, it is one message an optimiser's
    step.

    Args:
        timeout_minutes: How long ranks wait for each other in training. In evaluations they wait as long as it takes.
    """

    def __init__(self, timeout_minutes: float = 30.0, **kwargs: Any) -> None:
        super().__init__(timeout=timedelta(minutes=timeout_minutes), **kwargs)

    def _configure_launcher(self) -> None:
        """Ranks that this process starts are told its number, and end with it."""
        super()._configure_launcher()
        if isinstance(self.cluster_environment, LightningEnvironment):
            if self.local_rank:
                threading.Thread(target=_end_with, args=(int(os.environ[STARTED_BY]),), daemon=True).start()
            else:
                os.environ[STARTED_BY] = str(os.getpid())

    def setup_distributed(self) -> None:
        """Meet the other ranks."""
        super().setup_distributed()
        ranks.wait_patiently()

    def configure_ddp(self) -> None:
        """No wrapper."""

    def on_exception(self, exception: BaseException) -> None:
        """Take along the ranks that this process started, which would wait for it; the others' launcher does so."""
        super().on_exception(exception)
        if isinstance(self.launcher, _SubprocessScriptLauncher):
            self.launcher.kill(signal.SIGKILL)


def _end_with(parent: int) -> None:
    """A rank that another one started does not outlive it, whatever it waits for."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
