"""A callback that times the Trainer's loop and, around it, a bare loop over the same updates."""

import json
import time
from pathlib import Path

import lightning as L
from lightning.pytorch.callbacks import Callback

from mbml_lightning.algorithms import SAC, Algorithm
from mbml_lightning.data.blocks import Block

WARM_UP = 5


class Clock(Callback):
    """Writes seconds an update, bare and in the loop, to a JSON file.

    Args:
        path: The file.
        updates: Of the bare loop: half of them before the Trainer's loop and half after it.
    """

    def __init__(self, path: str, updates: int) -> None:
        self.path, self.updates, self.bare = Path(path), updates, 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After Lightning's preparations, before its first batch."""
        self.run_bare(pl_module, WARM_UP)
        self.bare = self.run_bare(pl_module, self.updates // 2)
        self.started = time.perf_counter()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """After the last batch, before the checkpoint's callback, which comes last."""
        looped = (time.perf_counter() - self.started) / trainer.global_step
        bare = (self.bare + self.run_bare(pl_module, self.updates // 2)) / 2
        self.path.write_text(json.dumps({"bare": bare, "looped": looped}), encoding="utf-8")

    @staticmethod
    def run_bare(algorithm: L.LightningModule, updates: int) -> float:
        """Seconds an update of nothing but the updates, their batches and, in SAC, the steps before them."""
        assert isinstance(algorithm, Algorithm)
        started = time.perf_counter()
        if isinstance(algorithm, SAC):
            algorithm.data.collect(algorithm.behaviour(), updates)
        for batch in Block(algorithm.rows, algorithm.plan, updates, key=0):
            algorithm.update(batch)
        return (time.perf_counter() - started) / updates
