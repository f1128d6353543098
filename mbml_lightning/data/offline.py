"""The K batches of phase 1 and 2, served from a store."""

from functools import cached_property
from pathlib import Path
from typing import cast

import lightning as L
import numpy as np
import torch
from jaxtyping import Float64

from mbml_lightning import envs
from mbml_lightning.arguments import PositiveInt
from mbml_lightning.data.blocks import Blocks, Plan
from mbml_lightning.data.card import card, warn_of
from mbml_lightning.data.rows import Rows, pack
from mbml_lightning.errors import StoreError
from mbml_lightning.files.store import Store, check_actions, read_store


class OfflineDataModule(L.LightningDataModule):
    """Per-task offline batches as one tensor on the device that trains.

    Args:
        store: Folder of the store, one folder a task in it.
        distribution: The task distribution that the store must be of.
        num_tasks: K, if fewer than the store holds: its first.
        split: Which task set the store must be of.
        verify: Compare the store with its hashes before it is used.
    """

    def __init__(
        self,
        store: str,
        distribution: str,
        num_tasks: PositiveInt | None = None,
        split: str = "train",
        verify: bool = True,
    ) -> None:
        super().__init__()
        self.store, self.split, self.verify = store, split, verify
        self.distribution, self.num_tasks = envs.distribution(distribution), num_tasks
        self.digest: str | None = None

    def setup(self, stage: str) -> None:
        """Read and check the store when a training begins; Lightning calls this before it sets up the method.

        Raises:
            StoreError: If the store is damaged or does not fit.
        """
        if stage == "fit":
            self.stored = self.read()
            self.digest, self.tasks = self.stored.digest, self.tasks_of(self.stored)
            warn_of(card(self.stored, self.distribution), self.store)

    @cached_property
    def rows(self) -> Rows:
        """Transitions of the tasks that this rank learns, on the device that trains."""
        tasks, distribution, learned = self.stored.tasks, self.distribution, range(len(self.tasks))
        if self.trainer:
            learned = cast(Plan, self.trainer.lightning_module.plan).share.tasks
        packed = pack([dict(tasks[k].fields) for k in learned])
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        outcome_dim = distribution.unobserved_outcomes if "outcomes" in tasks[0].fields else 0
        dims = distribution.observation_dim, distribution.action_dim
        count, digest = self.stored.meta["count"], self.stored.digest
        return Rows(packed.to(device), *dims, count, outcome_dim, digest, self.tasks)

    def read(self) -> Store:
        """Read the store and check that it fits the distribution, the split and the number of tasks.

        Raises:
            StoreError: If it does not.
        """
        of = self.distribution
        s, a, o = of.observation_dim, of.action_dim, of.unobserved_outcomes
        store = read_store(Path(self.store), distribution=of.name, observation_dim=s, action_dim=a, verify=self.verify)
        if store.meta["split"] != self.split:
            raise StoreError(f"{self.store}: holds {store.meta['split']} tasks, {self.split} is asked: set data.store")
        if (held := len(store.tasks)) < (self.num_tasks or 1):
            raise StoreError(f"{self.store}: holds {held} tasks: set num_tasks to {held}, which is {self.num_tasks}")
        if "outcomes" in store.tasks[0].fields and (kept := store.tasks[0].fields["outcomes"].shape[1]) != o:
            raise StoreError(f"{self.store}: holds {kept} outcomes a step, {o} are asked: collect it again")
        check_actions(store)
        self.tasks_of(store)
        return store

    def tasks_of(self, store: Store) -> Float64[np.ndarray, "K ..."]:
        """Read the tasks of a store, in its order, as its distribution has them.

        Raises:
            StoreError: One of them is no task of the distribution.
        """
        shape, where = self.distribution.task_shape, f"{self.store}: the tasks that its meta.json name"
        try:
            tasks = [np.asarray(record.task, np.float64).reshape(shape) for record in store.tasks[: self.num_tasks]]
            return self.distribution.validate_tasks(np.stack(tasks))
        except ValueError as error:
            remedy = "correct them, or set task.distribution to theirs"
            raise StoreError(f"{where} are not of {self.distribution.name} ({error}): {remedy}") from None

    def train_dataloader(self) -> Blocks:
        """Return the blocks of the whole training, as one epoch."""
        assert self.trainer is not None
        return Blocks.of(self.trainer, self.rows)

    def val_dataloader(self) -> range:
        """Return one empty batch: callbacks evaluate when Lightning's validation ends."""
        return range(1)
