"""Experience that grows while a method learns: environments side by side and the replay that they fill."""

from itertools import product
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from jaxtyping import Bool, Float
from torch import Tensor

from mbml_lightning import envs, ranks
from mbml_lightning.arguments import PositiveInt, Seed
from mbml_lightning.data.blocks import Blocks
from mbml_lightning.data.rows import Rows
from mbml_lightning.envs.cores import cores_for_physics
from mbml_lightning.errors import StoreError
from mbml_lightning.files.replay import ReplayFile
from mbml_lightning.files.store import TaskRecord
from mbml_lightning.files.store_writing import write_store
from mbml_lightning.seeds import seed_of
from mbml_lightning.types import Policy, Transitions

EPISODES = ("episode", "episode_return", "observations")  # what collection keeps of each task beside its environment


def episode_returns(
    rewards: Float[np.ndarray, " N"],
    terminations: Bool[np.ndarray, " N"],
    truncations: Bool[np.ndarray, " N"],
    copies: int = 1,
) -> list[float]:
    """Returns of all finished episodes in the order of their ends: the learning curve of a collection.

    Row ``t * copies + c`` is step t of copy c, whose episodes follow one another.
    """
    steps, of_copy = np.nonzero((terminations | truncations).reshape(-1, copies))
    totals = rewards.reshape(-1, copies).cumsum(0, dtype=np.float64)[steps, of_copy]
    returns = np.empty(len(totals))
    for copy in range(copies):
        returns[of_copy == copy] = np.diff(totals[of_copy == copy], prepend=0.0)
    listed: list[float] = returns.tolist()
    return listed


def check_amounts(interactions: int, capacity: int, copies: int) -> None:
    """Refuse to keep more steps of a task than are collected, or numbers that its copies cannot share.

    Raises:
        StoreError: If so.
    """
    if interactions > capacity:
        raise StoreError(f"data.interactions is {interactions}, but only {capacity} steps are collected")
    for name, steps in {"interactions": interactions, "capacity": capacity}.items():
        if steps % copies:
            raise StoreError(f"data.{name} is {steps}, but must be a multiple of data.copies, {copies}")


class OnlineDataModule(L.LightningDataModule):
    """Environments and a replay for each training task.

    The copies of a task's environment take their steps together, and each has its own episodes. Row ``t * copies + c``
    of a replay is step t of copy c: in time order, with the copies interleaved.

    Args:
        store: Where the batches are written to at the end.
        distribution: The task distribution.
        interactions: Transitions of each task's batch: the first so many that were collected.
        capacity: Steps a task that are collected in all, of all its copies together.
        num_tasks: K, if fewer than all official tasks of the split.
        split: Which official tasks.
        seed: Seed of the environments.
        copies: Copies of each task's environment (m).
    """

    def __init__(
        self,
        store: str,
        distribution: str,
        interactions: PositiveInt,
        capacity: PositiveInt,
        num_tasks: PositiveInt | None = None,
        split: str = "train",
        seed: Seed = 0,
        copies: PositiveInt = 1,
    ) -> None:
        super().__init__()
        self.store, self.interactions, self.capacity, self.seed = store, interactions, capacity, seed
        self.copies = copies
        self.distribution = envs.distribution(distribution)
        self.split, self.tasks = split, self.distribution.tasks(split)[:num_tasks]
        self.digest: str | None = None
        self.collects = False  # validation acts without a replay
        self.replay = ReplayFile(Path(store).with_name("replay.f32"))

    def setup(self, stage: str) -> None:
        """Make the environments and an empty replay when Lightning begins a training."""
        self.collects = stage == "fit"
        if not self.collects:
            return
        check_amounts(self.interactions, self.capacity, self.copies)
        self.own = ranks.own_tasks(len(self.tasks))
        k, tasks = len(self.own), self.tasks[self.own.start : self.own.stop].repeat(self.copies, axis=0)
        self.env = envs.make_vec_env(self.distribution.name, tasks, autoreset_mode=AutoresetMode.DISABLED)
        of = self.distribution
        self.rows = Rows.empty(k, self.capacity, of.observation_dim, of.action_dim, of.unobserved_outcomes)
        if self.trainer:
            self.rows.packed = self.rows.packed.to(self.trainer.strategy.root_device)
        self.truncations = torch.zeros(k, self.capacity, dtype=torch.bool)
        self.episode = np.zeros(len(tasks), np.int64)
        self.episode_return = np.zeros(len(tasks))
        self.observations = self._reset(np.ones(len(tasks), bool))

    def _reset(self, mask: np.ndarray) -> np.ndarray:
        """Begin new episodes where ``mask``; their starts depend on (seed, split, task, episode, copy) alone."""
        copies = product(self.own, range(self.copies))
        names = [(k, e, c) if c else (k, e) for (k, c), e in zip(copies, self.episode.tolist(), strict=True)]
        seeds = [seed_of(self.seed, self.split, *name, "collect reset") for name in names]
        self.episode += mask
        self.episode_return[mask] = 0
        return self.env.reset(seed=seeds, options={"reset_mask": mask})[0]

    @cores_for_physics()
    @torch.no_grad()
    def collect(self, policy: Policy, steps: int, z: Float[Tensor, "K 1 Z"] | None = None) -> list[float]:
        """Add ``steps`` steps of all environments of this rank to `rows`, and list the returns of ended episodes.

        ``z`` has task identities for a policy that needs them.
        """
        finished: list[float] = []
        device, share = self.rows.packed.device, ranks.Share(len(self.tasks), self.own)
        by_task = (len(self.own), self.copies)
        z = None if z is None else z.expand(-1, self.copies, -1)
        for _ in range(steps):
            s = torch.as_tensor(self.observations, device=device).unflatten(0, by_task)
            noise = share.randn((*by_task, policy.noise_dim), device)
            a = policy.act(s, z, noise).flatten(0, 1).cpu()
            next_s, r, termination, truncation, _ = self.env.step(a.numpy())
            now = slice(self.rows.count, self.rows.count + self.copies)
            self.truncations[:, now] = torch.as_tensor(truncation).view(by_task)
            columns = (self.observations, a, r, next_s, termination)
            row = Transitions(*(torch.as_tensor(x, dtype=torch.float32).unflatten(0, by_task) for x in columns))
            outcomes = torch.as_tensor(self.env.outcomes, dtype=torch.float32) if self.rows.outcome_dim else None
            self.rows.append(row, None if outcomes is None else outcomes.unflatten(0, by_task))
            self.episode_return += r
            self.observations = next_s
            if (over := termination | truncation).any():
                finished += self.episode_return[over].tolist()
                self.observations = self._reset(over)
        return finished

    def write_store(self, folder: Path, collector: dict[str, Any]) -> None:
        """Write the first ``interactions`` transitions of all ranks' tasks, as the replay's file holds them."""
        self.keep_steps()
        if ranks.rank():
            return
        steps = self.replay.steps(self.interactions, len(self.tasks), self.rows.packed.shape[-1] + 1)
        records = [self._record(k, steps[:, k]) for k in range(len(self.tasks))]
        about = {"env_id": self.distribution.env_id, "distribution": self.distribution.name, "split": self.split}
        write_store(folder, records, **about, collector=collector, overwrite=True)

    def _record(self, k: int, steps: Float[np.ndarray, "N D"]) -> TaskRecord:
        """Name the fields of one task as the store does, views of its rows in the file, and add its learning curve."""
        t = self.rows.unpack(torch.from_numpy(steps[:, :-1]))
        fields = {name: x.numpy() for name, x in t._asdict().items()}
        fields["terminations"] = fields["terminations"].astype(bool)
        fields["truncations"] = steps[:, -1] > 0
        if self.rows.outcome_dim:
            fields["outcomes"] = steps[:, -1 - self.rows.outcome_dim : -1]
        curve = episode_returns(fields["rewards"], fields["terminations"], fields["truncations"], self.copies)
        return TaskRecord(
            k, np.atleast_1d(self.tasks[k]).tolist(), fields, {"episode_returns": curve, "copies": self.copies}
        )

    def keep_steps(self) -> None:
        """Append all ranks' new steps to the replay's file, which rank 0 writes."""
        new = slice(self.replay.kept, self.rows.count)
        columns = (self.rows.packed[:, new].cpu(), self.truncations[:, new].unsqueeze(-1))
        if parts := ranks.collect(torch.cat(columns, -1), len(self.tasks)):
            self.replay.append(torch.cat(parts).transpose(0, 1))
        else:
            self.replay.kept = self.rows.count

    def state_dict(self) -> dict[str, Any]:
        """State from which collection resumes exactly; transitions go to the replay's file, not to the checkpoint."""
        self.keep_steps()
        own = {name: getattr(self, name) for name in EPISODES} | self.env.get_state()
        parts = ranks.collect(own, len(self.tasks))
        state = {name: torch.from_numpy(np.concatenate([part[name] for part in parts])) for name in own if parts}
        return {"steps": self.replay.kept, "sha256": self.replay.digest, "tasks": state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume collection where ``state_dict`` was taken; refuse a replay's file that is not the checkpoint's."""
        if not self.collects:
            return
        if (kept := state_dict["steps"]) > self.capacity:
            raise StoreError(f"{self.replay.path}: holds {kept} steps, data.capacity is {self.capacity}: raise it")
        if (held := len(state_dict["tasks"]["episode"]) // len(self.tasks)) != self.copies:
            raise StoreError(f"{self.replay.path}: is of {held} copies a task: set data.copies, {self.copies}, to that")
        width, mine = self.rows.packed.shape[-1] + 1, slice(self.own.start, self.own.stop)
        self.rows.count = 0
        for steps in self.replay.read(state_dict["steps"], state_dict["sha256"], len(self.tasks), width):
            end, own_steps = self.rows.count + len(steps), steps[:, mine].transpose(0, 1)
            self.rows.packed[:, self.rows.count : end] = own_steps[..., :-1]
            self.truncations[:, self.rows.count : end] = own_steps[..., -1] > 0
            self.rows.count = end
        own_copies = slice(mine.start * self.copies, mine.stop * self.copies)
        own = {name: value.numpy()[own_copies].copy() for name, value in state_dict["tasks"].items()}
        self.episode, self.episode_return, self.observations = (own.pop(name) for name in EPISODES)
        self.env.set_state(own)

    def train_dataloader(self) -> Blocks:
        """Return the blocks of the whole training, as one epoch."""
        assert self.trainer is not None
        return Blocks.of(self.trainer, self.rows)

    def val_dataloader(self) -> range:
        """Return one empty batch: callbacks evaluate when Lightning's validation ends."""
        return range(1)
