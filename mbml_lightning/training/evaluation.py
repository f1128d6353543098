"""Online evaluation as a Lightning callback: every rank acts on its share of the tasks, all know the scores."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback

from mbml_lightning import ranks
from mbml_lightning.arguments import NonNegativeInt, PositiveInt, Seed
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import ResultsError
from mbml_lightning.evaluation.adaptation import Adaptation, AdaptationProtocol, Chunk, adapt
from mbml_lightning.evaluation.contexts import begin, needed_actors, read_collectors
from mbml_lightning.evaluation.trials import merge, own_chunks
from mbml_lightning.files.evaluation import PROTOCOLS, Evaluation, Split, file_name, save_trajectories
from mbml_lightning.files.provenance import made_by
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.training import stopping as stop
from mbml_lightning.training.per_task import PerTask
from mbml_lightning.types import Policy


@runtime_checkable
class Evaluated(Protocol):
    """What the evaluation asks of a method."""

    family: TaskDistribution
    encoder: TaskEncoder | None
    split: str
    seed: int
    num_tasks: int
    global_step: int
    trained_updates: int
    share: ranks.Share

    def weights_digest(self) -> str:
        """SHA-256 of the weights, asked on all ranks together."""
        ...

    def provenance(self) -> dict[str, Any]:
        """What the weights are of."""
        ...

    def policy(self) -> Policy:
        """How it acts."""
        ...


class OnlineEvaluation(Callback):
    """Adaptation to training and unseen tasks whenever Lightning validates.

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
        copies: Simulations stepped side by side, about.
        seed: Seed of resets, actions and task identities.
        protocols: How tasks become known: ``prior-online`` (Algorithm 5), ``offline-own``, ``offline-other``,
            ``random-first``; methods that infer no task are evaluated under the first of these only.
        collectors: Checkpoints of SAC by the set it was trained on, whose actors collect the offline contexts.
        context_episodes: Episodes of an offline context.
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
        protocols: Sequence[str] = ("prior-online",),
        collectors: Mapping[str, str] | None = None,
        context_episodes: PositiveInt = 1,
    ) -> None:
        self.folder, self.splits, self.unseen_tasks, self.copies = Path(folder), list(splits), unseen_tasks, copies
        self.protocol = AdaptationProtocol(episodes, trials, seed, max_context, context_episodes)
        self.trials, self.trials_while_training = trials, trials_while_training or trials
        self.protocols, self.uncounted, self.paths = list(dict.fromkeys(protocols)), uncounted, collectors or {}
        self.collectors: dict[str, MLP] = {}
        self.made_of: dict[str, str] = {}  # SHA-256 of the weights that collect contexts
        self.evaluated_at: int | None = None  # the step of the last whole evaluation
        self.left_at: int | None = None  # the step whose evaluation a signal ended
        self.check()

    def check(self) -> None:
        """Refuse what cannot be evaluated.

        Raises:
            ResultsError: A protocol is unknown, or there is none, or offline contexts would be empty.
        """
        if not self.protocols or not set(self.protocols) <= set(PROTOCOLS):
            choices = ", ".join(PROTOCOLS)
            raise ResultsError(f"evaluation.protocols are {self.protocols}: choose at least one of {choices}")
        if self.protocol.context_episodes < 1:
            given = self.protocol.context_episodes
            raise ResultsError(f"evaluation.context_episodes is {given}, but must be at least 1")

    def state_dict(self) -> dict[str, Any]:
        """For the checkpoint of a run that goes on."""
        return {"left_at": self.left_at}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on."""
        self.left_at = state_dict["left_at"]

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Read who collects contexts, before anything is acted."""
        method = cast(Evaluated, pl_module)
        for split, tasks in needed_actors(self.protocols_of(method), self.tasks(method)).items():
            found = read_collectors(self.paths.get(split), split, method.family.name, tasks)
            self.collectors[split], self.made_of[f"collectors.{split}"] = found

    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Evaluate, unless Lightning only tries whether validation works."""
        if self.splits and not trainer.sanity_checking:
            self.evaluate(trainer, pl_module)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Make up for an evaluation that a signal ended."""
        if self.left_at == trainer.global_step:
            self.evaluate(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The last weights are always evaluated, if any are."""
        if self.ends_with_evaluation(trainer) and self.evaluated_at != trainer.global_step:
            self.evaluate(trainer, pl_module)

    def on_fit_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Also where the updates were done before, and a signal ended their evaluation."""
        if self.ends_with_evaluation(trainer):
            weights = cast(Evaluated, pl_module).weights_digest()
            if not ranks.gather(self.is_evaluated(pl_module, weights))[0]:
                self.evaluate(trainer, pl_module)

    def ends_with_evaluation(self, trainer: L.Trainer) -> bool:
        """Whether a finished training is evaluated, and may be now."""
        evaluated = bool(self.splits) and trainer.global_step >= trainer.max_steps and trainer.enable_validation
        return evaluated and not stop.agreed()

    def is_evaluated(self, pl_module: L.LightningModule, weights: str) -> bool:
        """Whether the folder has a whole evaluation of these weights."""
        last = self.protocols_of(cast(Evaluated, pl_module))[-1]
        try:
            kept = Evaluation.load(self.folder / file_name("evaluation.json", last))
        except ResultsError:
            return False
        return kept.made_of.get("weights") == weights and kept.trials == self.trials

    def evaluate(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Act, gather, log and save, one protocol after the other, until a signal asks to stop."""
        method = cast(Evaluated, pl_module)
        training = trainer.state.fn == "fit" and trainer.global_step < trainer.max_steps
        self.protocol = replace(self.protocol, trials=self.trials_while_training if training else self.trials)
        weights = method.weights_digest()
        for name in self.protocols_of(method):
            started = time.perf_counter()
            results = self.results(name, method, pl_module.device)
            self.left_at = None if results else trainer.global_step
            if not results:
                return
            if trainer.validating:
                self.log_scores(pl_module, name, results)
            if trainer.is_global_zero:
                self.log_tasks(trainer, method, name, results)
                self.save(method, name, results, weights, time.perf_counter() - started)
        self.evaluated_at = trainer.global_step

    def results(self, name: str, method: Evaluated, device: torch.device) -> dict[str, Adaptation]:
        """What all ranks acted under the protocol ``name``, by split; nothing if one of them was asked to stop."""
        mine = []
        for chunk in self.chunks(method):
            if stop.asked() is None:
                mine.append((chunk, self.act(name, method, chunk, device)))
        parts = ranks.gather(mine)
        return {} if stop.agreed() else merge([item for part in parts for item in part])

    def log_scores(self, pl_module: L.LightningModule, name: str, results: dict[str, Adaptation]) -> None:
        """To Lightning: for the bar, and for callbacks that choose by a score."""
        scores, protocols = self.scores(name, results), self.protocols_of(cast(Evaluated, pl_module))
        if name == (PROTOCOLS[0] if PROTOCOLS[0] in protocols else protocols[0]):
            scores["val/return"] = self.score(results.get("test", next(iter(results.values()))))
        for key, value in scores.items():
            pl_module.log(key, value, prog_bar=key == "val/return", logger=False, batch_size=1)

    def act(self, name: str, method: Evaluated, chunk: Chunk, device: torch.device) -> Adaptation:
        """The trials of a chunk under the protocol ``name``."""
        start = begin(name, method.family, self.protocol, chunk, self.collectors, device)
        return adapt(method.policy(), method.encoder, method.family, self.protocol, chunk, device, start)

    def protocols_of(self, module: Evaluated) -> list[str]:
        """Methods that infer no task have no use for contexts."""
        return self.protocols if module.encoder is not None else [PROTOCOLS[0]]

    def tasks(self, module: Evaluated) -> dict[str, int]:
        """Tasks that are acted on, by split."""
        if isinstance(module, PerTask):
            return {module.split: module.num_tasks} if self.splits else {}
        unseen = {split: len(module.family.tasks(split)[: self.unseen_tasks]) for split in self.splits}
        return {split: module.num_tasks if split == "train" else count for split, count in unseen.items()}

    def chunks(self, module: Evaluated) -> list[Chunk]:
        """All (task, trial) pairs that this rank acts."""
        stack = module.share.tasks if isinstance(module, PerTask) else None
        return own_chunks(self.tasks(module), self.protocol.trials, self.copies, stack, module.num_tasks)

    def score(self, result: Adaptation) -> float:
        """Mean return over tasks, trials and counted episodes."""
        return float(result.returns[..., self.uncounted :].mean())

    def scores(self, name: str, results: dict[str, Adaptation]) -> dict[str, float]:
        """Of every split, named after every protocol but the paper's."""
        ending = "" if name == PROTOCOLS[0] else f"_{name}"
        return {f"val/return_{split}{ending}": self.score(result) for split, result in results.items()}

    def log_tasks(self, trainer: L.Trainer, module: Evaluated, name: str, results: dict[str, Adaptation]) -> None:
        """Scores to the loggers; under the paper's protocol those of single tasks, too."""
        values = self.scores(name, results)
        for split, result in results.items() if name == PROTOCOLS[0] else ():
            means = result.returns[..., self.uncounted :].mean((-2, -1))
            values |= {f"val/return_{split}_task_{i}": float(mean) for i, mean in enumerate(means)}
        for logger in trainer.loggers:
            logger.log_metrics(values, step=module.trained_updates)
            logger.save()

    def save(self, module: Evaluated, name: str, results: dict[str, Adaptation], weights: str, seconds: float) -> None:
        """Write the protocol's ``evaluation.json`` and ``trajectories.npz``."""
        family, protocol, made = module.family, self.protocol, module.provenance()
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
            protocol=name,
            horizon=family.horizon,
            episodes=protocol.episodes,
            uncounted=self.uncounted,
            trials=protocol.trials,
            splits=splits,
            made_by=made_by() | {"wall_clock": {"evaluation": round(seconds, 3)}},
            made_of={"weights": weights} | self.made_of | {name: made[name] for name in ("data", "parents", "config")},
        )
        self.folder.mkdir(parents=True, exist_ok=True)
        evaluation.save(self.folder / file_name("evaluation.json", name))
        paths = {split: result.observations for split, result in results.items()}
        save_trajectories(self.folder / file_name("trajectories.npz", name), paths)
