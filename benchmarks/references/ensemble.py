"""The reward ensembles of phase 1, plainly."""

import torch
import torch.nn.functional as F
from torch.optim import Adam

from benchmarks.references.networks import Losses, Stacks, descend, mean_over_tasks, unstack
from mbml_lightning.algorithms import TransitionEnsemble
from mbml_lightning.types import TaskBatch


class EnsembleReference:
    """K separate ensembles, each of separate networks under one Adam."""

    def __init__(self, ours: TransitionEnsemble) -> None:
        nets, k = unstack(ours.ensemble), ours.num_tasks
        self.stacks: Stacks = {"ensemble": nets}
        self.tasks = [nets[i::k] for i in range(k)]
        self.adams = [Adam([p for net in task for p in net.parameters()], ours.lr) for task in self.tasks]

    def update(self, batch: TaskBatch) -> Losses:
        """Every task in turn; its members share the batch."""
        t, means = batch.transitions, []
        for i, (members, adam) in enumerate(zip(self.tasks, self.adams, strict=True)):
            rows = torch.cat([t.observations[i], t.actions[i]], -1)
            loss = torch.stack([F.mse_loss(net(rows).squeeze(-1), t.rewards[i]) for net in members]).sum()
            descend(loss, adam)
            means.append({"reward_loss": loss / len(members)})
        return mean_over_tasks(means)
