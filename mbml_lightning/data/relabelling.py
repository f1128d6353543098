"""Relabelling of transitions from one task to another (Algorithm 3): what forces the encoder to read rewards."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mbml_lightning import envs
from mbml_lightning.arguments import NonNegativeFloat, PositiveInt
from mbml_lightning.data.rows import Rows
from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import CheckpointError, RelabellingError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.types import Transitions


class Relabelled(NamedTuple):
    """Transitions of task j as task i would have rewarded them, c_{j->i} at ``[i, j]``; true ones on the diagonal.

    Attributes:
        rewards: ``(K, K, C)``.
        kept: Whether they are trusted; False on the diagonal, which needs no relabelling.
        next_observations: ``(K, K, C, S)``; None where tasks share their physics, so that next states stay.
    """

    rewards: Float[Tensor, "K K C"]
    kept: Bool[Tensor, "K K C"]
    next_observations: Float[Tensor, "K K C S"] | None = None


class Relabeller(ABC):
    """Base of all ways to give transitions of one task the rewards, or next states, of another."""

    def prepare(self, rows: Rows, name: str) -> dict[str, Checkpoint]:
        """Load what relabelling needs for this distribution, to the device of ``rows``, once before training.

        Returns:
            The checkpoints that it relabels with, by what they predict.
        """
        return {}

    @abstractmethod
    def __call__(self, contexts: Transitions, index: Int[Tensor, "K C"]) -> Relabelled:
        """Relabel contexts ``(K, C)``.

        Args:
            contexts: Transitions.
            index: Which of the stored rows they are.
        """


def ensemble_prediction(
    ensemble: MLP, s: Float[Tensor, "*n S"], a: Float[Tensor, "*n A"]
) -> tuple[Float[Tensor, "*m D"], Float[Tensor, "*m"]]:
    """Prediction of an ensemble for (s, a), and how much its members disagree.

    Returns:
        The mean over members, and their unbiased standard deviation, averaged over the D predicted dimensions (one of
        a reward); 0 for a single member.
    """
    prediction = ensemble(torch.cat([s, a], -1))
    mean = prediction.mean(0)
    return mean, (prediction.std(0) if len(prediction) > 1 else torch.zeros_like(mean)).mean(-1)


def with_truth(relabelled: Relabelled, contexts: Transitions) -> Relabelled:
    """Put each task's own transitions on the diagonal, which is not relabelled."""
    rewards, kept, next_s = relabelled
    diagonal = torch.eye(len(rewards), dtype=torch.bool, device=rewards.device).unsqueeze(-1)
    if next_s is not None:
        next_s = torch.where(diagonal.unsqueeze(-1), contexts.next_observations, next_s)
    return Relabelled(torch.where(diagonal, contexts.rewards, rewards), kept & ~diagonal, next_s)


class EnsembleRelabeller(Relabeller):
    """Relabelling by the ensemble's mean where its members agree (Algorithm 3).

    Args:
        checkpoint: Checkpoint of a trained `TransitionEnsemble` of rewards.
        threshold: Standard deviation below which a prediction is trusted (Table 2).
        next_state_checkpoint: The same of next states, for tasks that differ in their physics.
        next_state_threshold: Its threshold; None leaves next states as they are. Where both are asked, a transition is
            trusted if both predictions are.
        precompute: Relabel the rewards of every stored transition once before training, K x K x N numbers, instead of
            those of each context in every step. They are the same, for the ensemble is frozen. Next states are always
            predicted in the step: all of WalkerParam's would be 18 GB.
        members: Use the first so many networks of each ensemble; 1 is the "no ensemble" ablation, which trusts every
            prediction.
    """

    ACTIVATIONS = 1 << 24
    """Numbers in a hidden layer of all members at once: rows are predicted in chunks that stay below, and in memory."""

    def __init__(
        self,
        checkpoint: str,
        threshold: NonNegativeFloat,
        next_state_checkpoint: str | None = None,
        next_state_threshold: NonNegativeFloat | None = None,
        precompute: bool = True,
        members: PositiveInt | None = None,
    ) -> None:
        if next_state_threshold is not None and next_state_checkpoint is None:
            raise ValueError("next_state_threshold is given, but no next_state_checkpoint: give both or neither")
        self.checkpoint, self.threshold, self.precompute = checkpoint, threshold, precompute
        self.members = members
        self.next_state_checkpoint, self.next_state_threshold = next_state_checkpoint, next_state_threshold

    def prepare(self, rows: Rows, name: str) -> dict[str, Checkpoint]:
        """Load the ensembles and, if asked, relabel all rewards.

        Raises:
            CheckpointError: If a checkpoint holds no such ensemble of this distribution's tasks and dimensions.
        """
        read = {"rewards": Checkpoint.read(self.checkpoint)}
        self.ensemble = load_ensemble(read["rewards"], "rewards", rows, name, self.members)
        if self.next_state_threshold is not None and self.next_state_checkpoint is not None:
            target = "next_observations"
            read[target] = Checkpoint.read(self.next_state_checkpoint)
            self.dynamics = load_ensemble(read[target], target, rows, name, self.members)
        if self.precompute:
            t = rows.unpack(rows.packed[:, : rows.count])
            self._table, self._kept = self._predict(self.ensemble, self.threshold, t)
        return read

    @torch.no_grad()
    def _predict(self, ensemble: MLP, threshold: float, t: Transitions) -> tuple[Tensor, Tensor]:
        """Predict (K, C) rows under every task: means ``(K, K, C, D)``, and which are trusted, ``(K, K, C)``."""
        size = max(1, self.ACTIVATIONS // (math.prod(ensemble.members) * max(ensemble.sizes[1:])))
        s, a = (x.flatten(0, 1).split(size) for x in (t.observations, t.actions))
        mean, std = zip(*(ensemble_prediction(ensemble, *chunk) for chunk in zip(s, a, strict=True)), strict=True)
        tasks, shape = ensemble.members[-1], t.rewards.shape
        return torch.cat(mean, 1).view(tasks, *shape, -1), (torch.cat(std, 1) < threshold).view(tasks, *shape)

    def __call__(self, contexts: Transitions, index: Int[Tensor, "K C"]) -> Relabelled:
        """Relabel contexts by every task's ensembles."""
        if self.precompute:
            every = index.expand(len(index), -1, -1)
            rewards, kept = self._table.gather(-2, every.unsqueeze(-1)), self._kept.gather(-1, every)
        else:
            rewards, kept = self._predict(self.ensemble, self.threshold, contexts)
        next_s = None
        if self.next_state_threshold is not None:
            next_s, also = self._predict(self.dynamics, self.next_state_threshold, contexts)
            kept = kept & also
        return with_truth(Relabelled(rewards.squeeze(-1), kept, next_s), contexts)


def load_ensemble(
    checkpoint: Checkpoint, target: str, rows: Rows, distribution: str, members: int | None = None
) -> MLP:
    """Load the frozen networks of a `TransitionEnsemble`, all or the first ``members``.

    Raises:
        CheckpointError: If it predicts something else, or is of other data, tasks or dimensions.
    """
    checkpoint.check(method="TransitionEnsemble", distribution=distribution, target=target)
    checkpoint.check_data(rows.digest)
    ensemble = MLP.from_state_dict(checkpoint.state_dict, "ensemble.")
    if ensemble.members[1:] != rows.packed.shape[:1] or ensemble.sizes[0] != rows.observation_dim + rows.action_dim:
        raise CheckpointError(f"{checkpoint.path}: other tasks or dimensions than the data: train again")
    if members is not None:
        if not 1 <= members <= ensemble.members[0]:
            raise CheckpointError(
                f"{checkpoint.path}: has {ensemble.members[0]} members, relabeller.members is {members}"
            )
        ensemble = MLP.from_state_dict({name: weight[:members] for name, weight in ensemble.state_dict().items()})
    return ensemble.to(rows.packed.device).requires_grad_(False)


class OracleRelabeller(Relabeller):
    """Relabelling by the true reward functions: what perfect ensembles would give."""

    def prepare(self, rows: Rows, name: str) -> dict[str, Checkpoint]:
        """Compute the rewards of all stored transitions under every training task.

        Raises:
            RelabellingError: The data do not tell them.
        """
        distribution = envs.distribution(name)
        tasks = (distribution.tasks("train") if rows.tasks is None else rows.tasks)[: len(rows.packed)]
        self._table = torch.empty(len(tasks), len(tasks), rows.count, device=rows.packed.device)
        for j, packed in enumerate(rows.packed[:, : rows.count].cpu()):
            t = rows.unpack(packed)
            measured = packed[:, -rows.outcome_dim :].double().numpy() if rows.outcome_dim else None
            outcomes = _observed(distribution, t) if measured is None else measured
            actions = t.actions.double().numpy()
            rewards = distribution.reward(tasks.reshape(len(tasks), 1, *tasks.shape[1:]), actions, outcomes)
            self._table[:, j] = torch.as_tensor(rewards)
        return {}

    def __call__(self, contexts: Transitions, index: Int[Tensor, "K C"]) -> Relabelled:
        """Relabel contexts with the true rewards of every task."""
        rewards = self._table.gather(-1, index.expand(len(index), -1, -1))
        return with_truth(Relabelled(rewards, torch.ones_like(rewards, dtype=torch.bool)), contexts)


def _observed(distribution: TaskDistribution, t: Transitions) -> np.ndarray:
    """Outcomes of transitions, on which rewards depend, read off their states."""
    if distribution.unobserved_outcomes:
        raise RelabellingError(
            f"{distribution.name}: true rewards need outcomes that this store does not hold: collect it again"
        )
    try:
        return distribution.observed_outcomes(*(s.double().numpy() for s in (t.observations, t.next_observations)))
    except ValueError as error:
        raise RelabellingError(f"{error}: use EnsembleRelabeller") from None


def under_every_task(contexts: Transitions, relabelled: Relabelled) -> Transitions:
    """Rows of every task relabelled for every task: c_{j->i} at ``[i, j]``; unchanged fields are views."""
    k = len(relabelled.rewards)
    s, a, _, next_s, termination = (x.expand(k, *x.shape) for x in contexts)
    changed = relabelled.next_observations
    return Transitions(s, a, relabelled.rewards, next_s if changed is None else changed, termination)
