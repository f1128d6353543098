"""Online evaluation as a Lightning callback: every rank acts on its share of the tasks, all know the scores."""

import importlib.metadata
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import lightning as L
import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import Callback

from mbml_lightning.envs import TaskDistribution
from mbml_lightning.evaluation.adaptation import Adaptation, AdaptationProtocol, Chunk, adapt
from mbml_lightning.evaluation.results import Evaluation, Split, save_trajectories
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.types import Policy

PACKAGES = ("mbml-lightning", "torch", "lightning", "mujoco", "gymnasium", "numpy")


@runtime_checkable
class Evaluated(Protocol):
    """What the evaluation asks of a method."""

    family: TaskDistribution
    encoder: TaskEncoder | None
    stacked: bool
    seed: int
    num_tasks: int
    global_step: int
    trained_updates: int

    def policy(self) -> Policy:
        """How it acts."""
        ...


class OnlineEvaluation(Callback):
    """Algorithm 5 on training and unseen tasks whenever Lightning validates.

    The work is cut into chunks that do not depend on the number of ranks, and every episode has its own random
    numbers, so that scores are the same on any number of ranks and threads.

    Args:
        folder: Where ``evaluation.json`` and ``trajectories.npz`` go.
        splits: Task sets to act on; policies with one member a task act on ``train`` only.
        unseen_tasks: Tasks of each set but ``train``, all if None.
        episodes: Episodes of a trial.
        uncounted: First episodes of a trial that the score leaves out.
        trials: Independent trials on every task.
        max_context: Latest transitions that the posterior is inferred from, None for all.
        copies: Simulations stepped side by side, about.
        seed: Seed of resets, actions and task identities.
    """

    def __init__(
        self,
        folder: str,
        splits: Sequence[str] = ("train", "test"),
        unseen_tasks: int | None = None,
        episodes: int = 5,
        uncounted: int = 2,
        trials: int = 8,
        max_context: int | None = None,
        copies: int = 80,
        seed: int = 0,
    ) -> None:
        self.folder, self.splits, self.unseen_tasks, self.copies = Path(folder), list(splits), unseen_tasks, copies
        self.protocol, self.uncounted = AdaptationProtocol(episodes, trials, seed, max_context), uncounted

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Act, gather, log and save."""
        if not self.splits or trainer.sanity_checking:
            return
        started = time.perf_counter()
        method = cast(Evaluated, pl_module)
        chunks = list(self.chunks(method))
        mine = [
            (chunk, adapt(method.policy(), method.encoder, method.family, self.protocol, chunk, pl_module.device))
            for chunk in chunks[trainer.global_rank :: trainer.world_size]
        ]
        results = merge(gather(mine, trainer.world_size))
        for split, result in results.items():
            pl_module.log(f"val/return_{split}", self.score(result), logger=False, batch_size=1)
        unseen = self.score(results.get("test", next(iter(results.values()))))
        pl_module.log("val/return", unseen, prog_bar=True, logger=False, batch_size=1)
        if trainer.is_global_zero:
            self.log_tasks(trainer, method, results)
            self.save(method, results, time.perf_counter() - started)

    def chunks(self, module: Evaluated) -> Iterator[Chunk]:
        """All (task, trial) pairs, in parts of about ``copies``."""
        trials = range(self.protocol.trials)
        for split in self.splits:
            tasks = range(module.num_tasks)
            if split != "train":
                tasks = range(len(module.family.tasks(split)[: self.unseen_tasks]))
            if not module.stacked:
                size = max(1, self.copies // len(trials))
                yield from (Chunk(split, tasks[i : i + size], trials) for i in range(0, len(tasks), size))
            elif split == "train":  # a stack acts with all its members at once
                size = max(1, self.copies // len(tasks))
                yield from (Chunk(split, tasks, trials[i : i + size]) for i in range(0, len(trials), size))

    def score(self, result: Adaptation) -> float:
        """Mean return over tasks, trials and counted episodes."""
        return float(result.returns[..., self.uncounted :].mean())

    def log_tasks(self, trainer: L.Trainer, module: Evaluated, results: dict[str, Adaptation]) -> None:
        """Scores of single tasks, to the loggers only."""
        for logger in trainer.loggers:
            for split, result in results.items():
                means = result.returns[..., self.uncounted :].mean((-2, -1))
                values = {f"val/return_{split}_task_{i}": float(mean) for i, mean in enumerate(means)}
                values[f"val/return_{split}"] = float(means.mean())
                logger.log_metrics(values, step=module.trained_updates)
            logger.save()

    def save(self, module: Evaluated, results: dict[str, Adaptation], seconds: float) -> None:
        """Write ``evaluation.json`` and ``trajectories.npz``."""
        family, protocol = module.family, self.protocol
        splits = {
            split: Split(family.tasks(split)[: len(result.returns)].tolist(), result.returns)
            for split, result in results.items()
        }
        evaluation = Evaluation(
            method=type(module).__name__,
            distribution=family.name,
            env_id=family.env_id,
            seed=module.seed,
            step=module.trained_updates,
            protocol="prior-online",
            horizon=family.horizon,
            episodes=protocol.episodes,
            uncounted=self.uncounted,
            trials=protocol.trials,
            splits=splits,
            made_by=made_by() | {"wall_clock": {"evaluation": round(seconds, 3)}},
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        evaluation.save(self.folder / "evaluation.json")
        save_trajectories(
            self.folder / "trajectories.npz", {split: result.observations for split, result in results.items()}
        )


def gather(mine: list[Any], world_size: int) -> list[Any]:
    """The lists of all ranks in one, in one message after the last rollout."""
    if world_size == 1:
        return mine
    parts: list[list[Any]] = [[] for _ in range(world_size)]
    dist.all_gather_object(parts, mine)
    return [item for part in parts for item in part]


def merge(items: list[tuple[Chunk, Adaptation]]) -> dict[str, Adaptation]:
    """Results by split, tasks and trials in their order, whichever rank made them."""
    merged: dict[str, Adaptation] = {}
    for split in dict.fromkeys(chunk.split for chunk, _ in items):
        parts = sorted((c.tasks.start, c.trials.start, i) for i, (c, _) in enumerate(items) if c.split == split)
        rows = [[items[i][1] for *_, i in group] for _, group in groupby(parts, key=lambda part: part[0])]
        returns = np.concatenate([np.concatenate([r.returns for r in row], 1) for row in rows])
        merged[split] = Adaptation(returns, np.concatenate([row[0].observations for row in rows]))
    return merged


def made_by() -> dict[str, Any]:
    """What made a result: versions, machine and command."""
    return {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES}
        | {"python": platform.python_version()},
        "command": " ".join(["mbml", *sys.argv[1:]]),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
