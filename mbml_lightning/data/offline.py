"""The K batches of phase 1 and 2, served from a store."""

from pathlib import Path

import lightning as L
import torch

from mbml_lightning import envs
from mbml_lightning.data.rows import Rows, pack
from mbml_lightning.data.store import StoreError, read_store
from mbml_lightning.data.ticks import Ticks, blocks


class OfflineDataModule(L.LightningDataModule):
    """Per-task offline batches as one tensor on the device that trains.

    Args:
        store: Folder of the store, one folder a task in it.
        distribution: The task distribution that the store must be of.
        num_tasks: K, if fewer than the store holds.
        verify: Compare the store with its hashes before it is used.
    """

    def __init__(self, store: str, distribution: str, num_tasks: int | None = None, verify: bool = True) -> None:
        super().__init__()
        self.store, self.distribution, self.num_tasks, self.verify = store, distribution, num_tasks, verify
        self.digest: str | None = None

    def setup(self, stage: str) -> None:
        """Read the store; validation needs no data.

        Raises:
            StoreError: If the store is damaged or does not fit.
        """
        if stage != "fit":
            return
        family = envs.distribution(self.distribution)
        store = read_store(
            Path(self.store),
            distribution=family.name,
            observation_dim=family.observation_dim,
            action_dim=family.action_dim,
            verify=self.verify,
        )
        expected = len(family.tasks("train")[: self.num_tasks])
        if len(store.tasks) < expected:
            raise StoreError(f"{self.store}: holds {len(store.tasks)} tasks, {expected} are asked: set data.num_tasks")
        packed = pack([dict(task.fields) for task in store.tasks[:expected]])
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        self.digest = store.digest
        self.rows = Rows(packed.to(device), family.observation_dim, family.action_dim, packed.shape[1])

    def train_dataloader(self) -> Ticks:
        """One tick a block of updates."""
        return blocks(self.trainer.max_steps, self.trainer.lightning_module.updates_per_block)  # type: ignore

    def val_dataloader(self) -> Ticks:
        """One tick: the evaluation callback does the work at its end."""
        return Ticks(1)
