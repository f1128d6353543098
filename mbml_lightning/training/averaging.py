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
        self.ended = False

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Leave the average in the method, and keep the last weights, from which a run that was stopped goes on."""
        self._swap_models(pl_module)
        self.ended = True

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Save the average as the method's weights, and the last ones beside it."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self.ended:  # they have changed places
            last, average = checkpoint["state_dict"], checkpoint["current_model_state"]
            checkpoint |= {"state_dict": average, "current_model_state": last}

    def on_load_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Go on with the average where a training goes on; a validation needs no more than the weights."""
        if trainer.state.fn == "fit":
            super().on_load_checkpoint(trainer, pl_module, checkpoint)
