"""Phase 1: ensembles that predict each task's rewards or next states (Algorithm 2)."""

import logging
from collections.abc import Sequence
from typing import Any, Literal, NoReturn

import torch
from torch import Tensor
from torch.optim import Adam

from mbml_lightning import ranks
from mbml_lightning.arguments import NonNegativeFloat, PositiveFloat, PositiveInt, Seed
from mbml_lightning.data.relabelling_error import truly_relabelled
from mbml_lightning.errors import ConfigurationError, RelabellingError
from mbml_lightning.evaluation.metrics import RelabellingErrors
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.training.per_task import PerTask
from mbml_lightning.types import TaskBatch, Transitions


class TransitionEnsemble(PerTask):
    """Ensembles of E networks that predict r(s, a), or s'(s, a), for each of K tasks.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if not as many as official training tasks.
        target: What is predicted; next states where tasks differ in their physics, as themselves and not as changes.
        members: E; 1 for the "no ensemble" ablation.
        hidden: Hidden layers of a member.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        threshold: Standard deviation below which a reward is trusted; for the logged errors of relabelling only.
        independent_minibatches: Every member draws its own transitions (Algorithm 2) instead of sharing them
            (official code); sharing leaves less disagreement, which the published thresholds are tuned for.
        updates_per_block: Gradient updates of a Lightning batch.
        seed: Seed of the updates' randomness.
    """

    def __init__(
        self,
        distribution: str,
        num_tasks: PositiveInt | None = None,
        target: Literal["rewards", "next_observations"] = "rewards",
        members: PositiveInt = 20,
        hidden: Sequence[PositiveInt] = (128,),
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 128,
        threshold: NonNegativeFloat | None = None,
        independent_minibatches: bool = False,
        updates_per_block: PositiveInt = 50,
        seed: Seed = 0,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters()
        self.target: Literal["rewards", "next_observations"] = target
        self.threshold = threshold
        self.lr, self.minibatches = lr, members if independent_minibatches else 1
        self.batch_size = batch_size * self.minibatches
        inputs = self.distribution.observation_dim + self.distribution.action_dim
        outputs = 1 if target == "rewards" else self.distribution.observation_dim
        self.ensemble = MLP([inputs, *hidden, outputs], members=(members, self.num_tasks))

    def configure_optimizers(self) -> Adam:
        """Make one Adam over all members of all tasks."""
        return self.adam(self.lr, self.ensemble)

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Lower the squared error: mean over transitions and predicted dimensions, sum over members and tasks."""
        t = batch.transitions
        target = t.rewards.unsqueeze(-1) if self.target == "rewards" else t.next_observations
        inputs, target = (
            x.unflatten(1, (self.minibatches, -1)).transpose(0, 1)
            for x in (torch.cat([t.observations, t.actions], -1), target)
        )
        error = (self.ensemble(inputs) - target).square()
        self.step(self.optimizer_list()[0], error.mean((-2, -1)).sum())
        return {"reward_loss" if self.target == "rewards" else "next_state_loss": error.mean()}

    # How well it relabels ---------------------------------------------------------------------------------------

    def on_fit_start(self) -> None:
        """Draw the transitions on which relabelled rewards are compared with true ones, where those are known."""
        super().on_fit_start()
        self.probe: tuple[Transitions, Tensor] | None = None
        if self.target == "rewards" and self.num_tasks > 1:
            try:
                self.probe = truly_relabelled(self.rows, self.distribution.name, self.num_tasks)
            except RelabellingError as error:
                logging.getLogger(__name__).info("errors of relabelling are not measured: %s", error)

    @torch.no_grad()
    def validation_step(self, *_: Any) -> None:
        """Log the mean absolute errors of relabelled rewards (Figure 7) whenever Lightning validates."""
        if self.probe is not None:
            t, truth = self.probe
            inputs = torch.cat([t.observations, t.actions], -1).flatten(0, 1)
            mine = self.ensemble(inputs).squeeze(-1).unflatten(-1, t.rewards.shape)
            rewards = torch.cat(ranks.gather(mine.cpu(), self.num_tasks), 1).to(truth.device)
            metric = RelabellingErrors(self.threshold, sync_on_compute=False)  # every rank has all of them
            metric.update(rewards, truth)
            self.write({f"val/{name}": float(error) for name, error in metric.compute().items() if error.isfinite()})

    def identity(self) -> dict[str, str]:
        """Names of method, distribution and predicted quantity, by which a checkpoint is recognised."""
        return super().identity() | {"target": self.target}

    def policy(self) -> NoReturn:
        """Refuse to act: an ensemble only predicts.

        Raises:
            ConfigurationError: Always.
        """
        raise ConfigurationError("a TransitionEnsemble predicts and does not act: evaluate another method")
