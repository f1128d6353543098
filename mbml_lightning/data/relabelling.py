"""Relabelling of transitions from one task to another (Algorithm 3): what forces the encoder to read rewards."""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mbml_lightning.data.checkpoints import CheckpointError, check_made_by, read_checkpoint
from mbml_lightning.data.rows import Rows
from mbml_lightning.envs import distribution
from mbml_lightning.nets.stacked import MLP
from mbml_lightning.types import Transitions


class Relabelled(NamedTuple):
    """Rewards that task i's reward function gives to task j's transitions.

    Attributes:
        rewards: ``(K, K, C)`` at ``[i, j]``; the diagonal holds the true rewards.
        kept: Whether the rewards are trusted; False on the diagonal, which needs no relabelling.
    """

    rewards: Float[Tensor, "K K C"]
    kept: Bool[Tensor, "K K C"]


class Relabeller(ABC):
    """Gives contexts of every task the rewards of every other task."""

    def prepare(self, rows: Rows, distribution: str) -> None:
        """Load what relabelling needs for this distribution, to the device of ``rows``, once before training."""
        return

    @abstractmethod
    def __call__(self, contexts: Transitions, index: Int[Tensor, "K C"]) -> Relabelled:
        """Relabel contexts ``(K, C)``.

        Args:
            contexts: Transitions.
            index: Which of the stored rows they are.
        """


def ensemble_prediction(
    ensemble: MLP, s: Float[Tensor, "*n S"], a: Float[Tensor, "*n A"]
) -> tuple[Float[Tensor, "*m"], Float[Tensor, "*m"]]:
    """Mean and unbiased standard deviation over members of the reward predicted for (s, a); 0 for a single member."""
    prediction = ensemble(torch.cat([s, a], -1)).squeeze(-1)
    mean = prediction.mean(0)
    return mean, prediction.std(0) if len(prediction) > 1 else torch.zeros_like(mean)


def with_true_rewards(
    rewards: Float[Tensor, "K K C"], kept: Bool[Tensor, "K K C"], true: Float[Tensor, "K C"]
) -> Relabelled:
    """Put each task's own rewards on the diagonal, which is not relabelled."""
    diagonal = torch.eye(len(true), dtype=torch.bool, device=true.device).unsqueeze(-1)
    return Relabelled(torch.where(diagonal, true, rewards), kept & ~diagonal)


class EnsembleRelabeller(Relabeller):
    """Algorithm 3: the ensemble's mean, where its members agree.

    Args:
        checkpoint: Checkpoint of a trained `TransitionEnsemble`.
        threshold: Standard deviation below which a prediction is trusted (Table 2).
        precompute: Relabel every stored transition once before training, K x K x N rewards, instead of each context
            in every step. The rewards are the same, for the ensemble is frozen.
    """

    CHUNK = 512
    """Rows relabelled at once: few enough to stay in the cache."""

    def __init__(self, checkpoint: str, threshold: float, precompute: bool = True) -> None:
        self.checkpoint, self.threshold, self.precompute = checkpoint, threshold, precompute

    def prepare(self, rows: Rows, distribution: str) -> None:
        """Load the ensemble and, if asked, relabel all rows.

        Raises:
            CheckpointError: If the checkpoint holds no ensemble of this distribution's tasks and dimensions.
        """
        content = read_checkpoint(self.checkpoint)
        check_made_by(content, method="TransitionEnsemble", distribution=distribution)
        ensemble = MLP.from_state_dict(content["state_dict"], "ensemble.")
        if ensemble.members[1:] != rows.packed.shape[:1] or ensemble.sizes[0] != rows.observation_dim + rows.action_dim:
            raise CheckpointError(f"{self.checkpoint}: other tasks or dimensions than the data: train again")
        self.ensemble = ensemble.to(rows.packed.device).requires_grad_(False)
        if self.precompute:
            self._table, self._trusted = self._relabel_all(rows)

    def _predict(self, contexts: Transitions) -> tuple[Tensor, Tensor]:
        """Rewards of (K, C) rows under every task, and whether they are trusted, both ``(K, K, C)``."""
        s, a = (x.flatten(0, 1) for x in (contexts.observations, contexts.actions))
        mean, std = ensemble_prediction(self.ensemble, s, a)
        shape = (len(mean), *contexts.rewards.shape)
        return mean.view(shape), (std < self.threshold).view(shape)

    @torch.no_grad()
    def _relabel_all(self, rows: Rows) -> tuple[Tensor, Tensor]:
        size = max(1, self.CHUNK // len(rows.packed))
        chunks = rows.packed[:, : rows.count].split(size, 1)
        rewards, trusted = zip(*(self._predict(rows.unpack(chunk)) for chunk in chunks), strict=True)
        return torch.cat(rewards, -1), torch.cat(trusted, -1)

    @torch.no_grad()
    def __call__(self, contexts: Transitions, index: Int[Tensor, "K C"]) -> Relabelled:
        """Rewards of the contexts under every task's ensemble."""
        if self.precompute:
            every = index.expand(len(index), -1, -1)
            rewards, kept = self._table.gather(-1, every), self._trusted.gather(-1, every)
        else:
            rewards, kept = self._predict(contexts)
        return with_true_rewards(rewards, kept, contexts.rewards)


class OracleRelabeller(Relabeller):
    """Relabelling by the true reward functions: what perfect ensembles would give.

    Args:
        distribution: Name of a task distribution whose reward is a function of (s, a, s').
        num_tasks: How many of its training tasks take part, all if None.
    """

    def __init__(self, distribution: str, num_tasks: int | None = None) -> None:
        self.distribution, self.num_tasks = distribution, num_tasks

    def __call__(self, contexts: Transitions, index: Int[Tensor, "K C"]) -> Relabelled:
        """True rewards of the contexts under every task."""
        family = distribution(self.distribution)
        tasks = family.tasks("train")[: self.num_tasks]
        tasks = tasks.reshape(len(tasks), 1, 1, *tasks.shape[1:])
        s, a, _, next_s, _ = (x.cpu().double().numpy() for x in contexts)
        rewards = torch.as_tensor(family.reward(tasks, s, a, next_s)).to(contexts.rewards)
        return with_true_rewards(rewards, torch.ones_like(rewards, dtype=torch.bool), contexts.rewards)
