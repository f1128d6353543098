"""The moving average of a method's weights, which is evaluated and kept in place of the last ones."""

from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EMAWeightAveraging


class MovingAverage(EMAWeightAveraging):
    """Averages weights after every block of updates.

    Args:
        decay: Of the average, an update.
        updates_per_block: Updates of a block.
    """

    def __init__(self, decay: float, updates_per_block: int) -> None:
        super().__init__(decay=decay**updates_per_block)

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the average where a training goes on; a validation needs no more than the weights."""
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
