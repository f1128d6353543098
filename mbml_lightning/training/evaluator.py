"""Evaluation of the method that a Trainer holds: act, score, log and save."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch

from mbml_lightning import ranks
from mbml_lightning.arguments import NonNegativeInt, PositiveInt, Seed
from mbml_lightning.errors import ConfigurationError, ResultsError
from mbml_lightning.evaluation.adaptation import Adaptation, adapt
from mbml_lightning.evaluation.contexts import (
    PAPER,
    ContextProtocol,
    actors,
    find_protocol,
    needed_actors,
    read_collectors,
)
from mbml_lightning.evaluation.metrics import CountedReturn
from mbml_lightning.evaluation.trials import Chunk, merge, own_chunks
from mbml_lightning.files.evaluation import Evaluation, Split, file_name, save_trajectories, summary
from mbml_lightning.files.provenance import made_by
from mbml_lightning.files.validations import keep
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.seeds import EpisodeSeeds
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.training.logger import JSONLLogger
from mbml_lightning.training.per_task import PerTask
from mbml_lightning.training.stopping import STOP


class Evaluator:
    """Adaptation to the tasks of a method: acts, scores what happened, logs and saves it.

    The work is cut into chunks that do not depend on the number of ranks, and every episode has its own random
    numbers, so that scores are the same on any number of ranks and threads.

    Args:
        folder: Where ``evaluation.json`` and ``trajectories.npz`` go.
        splits: Task sets to act on, none to skip evaluation; policies with one member a task act on their own set.
        unseen_tasks: Tasks of each set but ``train``, all if None.
        episodes: Episodes of a trial.
        uncounted: First episodes of a trial that the score leaves out.
        trials: Independent trials on every task.
        trials_while_training: As many, but for the last evaluation of a training, whose scores are kept; ``trials`` if
            None.
        max_context: Latest transitions that the posterior is inferred from, None for all.
        copies: Environment copies stepped side by side, about.
        seed: Seed of resets, actions and task identities.
        protocols: How tasks become known: ``prior-online`` (Algorithm 5), ``offline-own``, ``offline-other``,
            ``random-first``, or the path of a class of your own; methods that infer no task are evaluated under the
            first of these only.
        collectors: Checkpoints of SAC by the set it was trained on, whose actors collect the offline contexts.
        context_episodes: Episodes of an offline context.

    Raises:
        ConfigurationError: A protocol is unknown or badly named, or there is none, or offline contexts would be empty.
    """

    def __init__(
        self,
        folder: str,
        splits: Sequence[str] = ("train", "test"),
        unseen_tasks: PositiveInt | None = None,
        episodes: PositiveInt = 5,
        uncounted: NonNegativeInt = 2,
        trials: PositiveInt = 8,
        trials_while_training: PositiveInt | None = None,
        max_context: PositiveInt | None = None,
        copies: PositiveInt = 80,
        seed: Seed = 0,
        protocols: Sequence[str | ContextProtocol] = (PAPER.name,),
        collectors: Mapping[str, str] | None = None,
        context_episodes: PositiveInt = 1,
    ) -> None:
        self.folder, self.splits, self.unseen_tasks = Path(folder), list(splits), unseen_tasks
        self.episodes, self.uncounted, self.max_context = episodes, uncounted, max_context
        self.trials, self.trials_while_training = trials, trials_while_training or trials
        self.copies, self.seed, self.context_episodes = copies, seed, context_episodes
        self.protocols = list({found.name: found for found in map(find_protocol, protocols)}.values())
        self.paths = collectors or {}
        self.actors: dict[str, MLP] = {}  # by split the networks that collect contexts
        self.made_of: dict[str, str] = {}  # SHA-256 of their weights
        self.summaries: dict[str, str] = {}  # by protocol, of the last evaluation, for the end of a command
        if not self.protocols:
            raise ConfigurationError("evaluation.protocols is empty: choose at least one")
        if context_episodes < 1:
            raise ConfigurationError(f"evaluation.context_episodes is {context_episodes}, but must be at least 1")

    def read_collectors(self, method: Algorithm) -> None:
        """Read the actors that the protocols need.

        Raises:
            CheckpointError: A checkpoint is missing or does not fit.
        """
        for split, count in needed_actors(self.protocols_of(method), self.tasks(method)).items():
            tasks = self.task_set(method, split)[:count]
            found = read_collectors(self.paths.get(split), split, method.distribution, tasks, count)
            self.actors[split], self.made_of[f"collectors.{split}"] = actors(found), found.digest

    def protocols_of(self, method: Algorithm) -> list[ContextProtocol]:
        """List the protocols for a method: those that infer no task have no use for contexts."""
        return self.protocols if method.encoder is not None else [PAPER]

    def evaluate_all(self, trainer: L.Trainer, trials: int) -> bool:
        """Act, log and save, one protocol after the other; False if a signal asked to stop."""
        method = method_of(trainer)
        weights = method.weights_digest()
        for protocol in self.protocols_of(method):
            started = time.perf_counter()
            if not (results := self.act(protocol, method, trials)):
                return False
            self.log_scores(trainer, protocol, results)
            if trainer.is_global_zero:
                seconds = time.perf_counter() - started
                self.save(protocol, method, results, weights, seconds, trainer.state.fn == "validate")
        return True

    def tasks(self, method: Algorithm) -> dict[str, int]:
        """Count the tasks that are acted on, by split."""
        if isinstance(method, PerTask):
            return {method.split: method.num_tasks} if self.splits else {}
        return {split: len(self.task_set(method, split)) for split in self.splits}

    def task_set(self, method: Algorithm, split: str) -> np.ndarray:
        """Return the tasks of a split: those that the method learns, or official ones that it has not seen."""
        return method.tasks if split == method.split else method.distribution.tasks(split)[: self.unseen_tasks]

    def chunks(self, method: Algorithm, trials: int) -> list[Chunk]:
        """List all (task, trial) pairs that this rank acts."""
        stack = method.share.tasks if isinstance(method, PerTask) else None
        return own_chunks(self.tasks(method), trials, self.copies, stack, method.num_tasks)

    def act(self, protocol: ContextProtocol, method: Algorithm, trials: int) -> dict[str, Adaptation]:
        """Act on all ranks and return the results of all by split; nothing if a signal came to one of them."""
        mine = []
        for chunk in self.chunks(method, trials):
            if STOP.received is None:
                mine.append((chunk, self.act_chunk(protocol, method, chunk)))
        parts = ranks.gather(mine)
        return {} if STOP.agreed() else merge([item for part in parts for item in part])

    def act_chunk(self, protocol: ContextProtocol, method: Algorithm, chunk: Chunk) -> Adaptation:
        """Act the trials of a chunk under a protocol."""
        parameters = self.task_set(method, chunk.split)[list(chunk.tasks)]
        seeds = EpisodeSeeds(self.seed, *chunk, device=method.device, parameters=parameters)
        start = protocol.begin(method.distribution, seeds, self.actors, self.context_episodes)
        return adapt(
            method.policy(), method.encoder, method.distribution, seeds, self.episodes, self.max_context, start
        )

    def log_scores(self, trainer: L.Trainer, protocol: ContextProtocol, results: Mapping[str, Adaptation]) -> None:
        """Give scores to Lightning, for the bar and for callbacks that choose by one, and to the loggers."""
        method, scores = method_of(trainer), {}
        for split, result in results.items():
            metric = CountedReturn(self.uncounted, sync_on_compute=False)  # every rank has all results
            metric.update(torch.from_numpy(result.returns))
            scores[split] = metric.compute()
        ending = "" if protocol == PAPER else f"_{protocol.name}"
        values = {f"val/return_{split}{ending}": float(score["mean"]) for split, score in scores.items()}
        if trainer.validating:
            protocols, speaks = self.protocols_of(method), {}
            if protocol == (PAPER if PAPER in protocols else protocols[0]):
                speaks = {"val/return": float(scores.get("test", next(iter(scores.values())))["mean"])}
            for name, value in (values | speaks).items():
                method.log(name, value, prog_bar=name == "val/return", logger=False, batch_size=1)
        for split, score in scores.items() if protocol == PAPER else ():
            values |= {f"val/return_{split}_task_{i}": value for i, value in enumerate(score["tasks"].tolist())}
        for logger in trainer.loggers if trainer.is_global_zero else ():
            if trainer.state.fn == "validate" and isinstance(logger, JSONLLogger):
                continue  # the log is the training's: these may be other weights, or fewer trials
            logger.log_metrics(values, step=method.trained_updates)
            logger.save()

    def is_saved(self, protocol: ContextProtocol, weights: str, trials: int) -> bool:
        """Tell whether the folder has a whole evaluation of these weights."""
        try:
            kept = Evaluation.load(self.folder / file_name("evaluation.json", protocol.name))
        except ResultsError:
            return False
        return kept.made_of.get("weights") == weights and kept.trials == trials

    def save(
        self,
        protocol: ContextProtocol,
        method: Algorithm,
        results: Mapping[str, Adaptation],
        weights: str,
        seconds: float,
        validates: bool = False,
    ) -> None:
        """Write the protocol's ``evaluation.json`` and ``trajectories.npz``; a validation takes nothing's place."""
        returns = {name: x.returns for name, x in results.items()}
        evaluation = self.record(protocol, method, returns, weights, seconds)
        self.folder.mkdir(parents=True, exist_ok=True)
        paths = {split: result.observations for split, result in results.items()}
        path, reason = self.folder / file_name("evaluation.json", protocol.name), ""
        if validates:
            path, _, reason = keep(self.folder, evaluation, paths)
        else:  # a training owns its folder
            evaluation.save(path)
            save_trajectories(self.folder / file_name("trajectories.npz", protocol.name), paths)
        self.summaries[protocol.name] = summary(method.label, evaluation, path, reason)

    def record(
        self, protocol: ContextProtocol, method: Algorithm, returns: dict[str, np.ndarray], weights: str, seconds: float
    ) -> Evaluation:
        """Put returns together with all that they depend on."""
        distribution, made = method.distribution, method.provenance()
        made_of = {"weights": weights, "settings": self.settings()} | self.made_of
        return Evaluation(
            method=type(method).__name__,
            distribution=distribution.name,
            env_id=distribution.env_id,
            seed=method.seed,
            step=method.trained_updates,
            protocol=protocol.name,
            horizon=distribution.horizon,
            episodes=self.episodes,
            uncounted=self.uncounted,
            trials=next(iter(returns.values())).shape[1],
            splits={name: Split(self.task_set(method, name)[: len(x)].tolist(), x) for name, x in returns.items()},
            made_by=made_by() | {"wall_clock": {"evaluation": round(seconds, 3)}},
            made_of=made_of | {name: made[name] for name in ("data", "parents", "config")},
        )

    def settings(self) -> dict[str, Any]:
        """Collect the arguments, beside those that an evaluation names anyway, that its returns depend on."""
        return {"seed": self.seed, "max_context": self.max_context, "context_episodes": self.context_episodes}


def method_of(trainer: L.Trainer) -> Algorithm:
    """Return the method that the trainer trains or validates.

    Raises:
        TypeError: It is none of this package's kind.
    """
    if not isinstance(trainer.lightning_module, Algorithm):
        raise TypeError(f"OnlineEvaluation evaluates an Algorithm, not a {type(trainer.lightning_module).__name__}")
    return trainer.lightning_module
