"""The strategy by which Lightning runs several ranks without wrapping the module."""

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
from mbml_lightning.arguments import PositiveFloat

STARTED_BY = "MBML_STARTED_BY"
"""Environment variable: the process that started a rank."""


class UnwrappedDDP(DDPStrategy):
    """Data-parallel training without the wrapper around the module.

    Tasks that have nothing in common stay on their rank; where gradients are averaged, it is one message an optimiser's
    step, and not one for every ``backward`` as with torch's wrapper.

    Args:
        timeout_minutes: How long ranks wait for each other in training. In evaluations they wait as long as it takes.
    """

    def __init__(self, timeout_minutes: PositiveFloat = 30.0, **kwargs: Any) -> None:
        super().__init__(timeout=timedelta(minutes=timeout_minutes), **kwargs)

    def _configure_launcher(self) -> None:
        """Tie the ranks that this process launches to its life; Lightning calls this when it picks a launcher."""
        super()._configure_launcher()
        if isinstance(self.cluster_environment, LightningEnvironment):
            if self.local_rank:
                threading.Thread(target=_end_with, args=(int(os.environ[STARTED_BY]),), daemon=True).start()
            else:
                os.environ[STARTED_BY] = str(os.getpid())

    def setup_distributed(self) -> None:
        """Create the process groups: Lightning's own, and the patient one of evaluations."""
        super().setup_distributed()
        ranks.wait_patiently()

    def configure_ddp(self) -> None:
        """Leave the module unwrapped; Lightning would wrap it in DistributedDataParallel here."""

    def on_exception(self, exception: BaseException) -> None:
        """Kill the child ranks, which would block in a collective; under torchrun the launcher does so."""
        super().on_exception(exception)
        if isinstance(self.launcher, _SubprocessScriptLauncher):
            self.launcher.kill(getattr(signal, "SIGKILL", signal.SIGTERM))  # Windows has none


def _end_with(parent: int) -> None:
    """End this process when the one that launched it is gone."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)
