"""Phase 1: batch-constrained Q-learning on K stacked tasks (Algorithm 4, line 1; Algorithm 7 without z)."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.arguments import PositiveFloat, PositiveInt, Seed, UnitInterval
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.nets.heads import (
    CandidateEncoder,
    CandidateGenerator,
    Perturbation,
    QFunction,
    clipped_noise,
    perturb,
)
from mbml_lightning.nets.mlp import fan_in_uniform
from mbml_lightning.nets.standardiser import Standardiser
from mbml_lightning.objectives import bcq as loss
from mbml_lightning.objectives import td
from mbml_lightning.policies.bcq import BCQPolicy
from mbml_lightning.training.algorithm import move_towards
from mbml_lightning.training.per_task import PerTask
from mbml_lightning.types import TaskBatch, Transitions

Randn = Callable[..., Tensor]
"""Draws standard normal numbers of a given shape."""


@dataclass(frozen=True)
class BCQOptions:
    """Hyper-parameters of BCQ's losses, targets and candidates.

    Args:
        discount: gamma.
        tau: Rate at which target networks follow.
        soft_min: lambda, the weight of the smaller critic (Eq. 20).
        phi: Largest perturbation of an action.
        candidates: Candidate actions of the target and when acting.
    """

    discount: float
    tau: float
    soft_min: float
    phi: float
    candidates: int


class BCQNetworks(nn.Module):
    """Q, xi and the CVAE (G and its encoder) of BCQ with their losses, for a stack of tasks or, given z, for all.

    Args:
        dims: Dimensions of states and of actions.
        q_hidden: Hidden layers of the two critics.
        vae_hidden: Hidden layers of the CVAE's encoder and decoder.
        perturbation_hidden: Hidden layers of the perturbation.
        options: Discount, targets and candidates.
        z_dim: Dimensions of the task identity, 0 for none.
        members: Number of tasks with networks of their own, as a tuple; none for one set of networks.
        layer_norm: Normalise what enters the critics' ReLUs.
    """

    def __init__(
        self,
        dims: tuple[int, int],
        q_hidden: Sequence[int],
        vae_hidden: Sequence[int],
        perturbation_hidden: Sequence[int],
        options: "BCQOptions",
        z_dim: int = 0,
        members: tuple[int, ...] = (),
        layer_norm: bool = False,
    ) -> None:
        super().__init__()
        self.options, init = options, fan_in_uniform
        self.q = QFunction(*dims, q_hidden, z_dim, (2, *members), init, layer_norm)
        self.perturbation = Perturbation(*dims, perturbation_hidden, z_dim, members, init)
        self.generator = CandidateGenerator(*dims, vae_hidden, z_dim, members, init)
        self.latent = CandidateEncoder(*dims, vae_hidden, z_dim, members, init)
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.perturbation_target = copy.deepcopy(self.perturbation).requires_grad_(False)

    def vae_loss(self, t: Transitions, randn: Randn, z: Tensor | None = None) -> Tensor:
        """Loss of the CVAE (Eq. 19)."""
        mean, std = self.latent(t.observations, t.actions, z)
        nu = mean + std * randn(*std.shape)
        return loss.vae_loss(self.generator(t.observations, nu, z), t.actions, mean, std)

    def q_loss(self, t: Transitions, randn: Randn, z: Tensor | None = None) -> Tensor:
        """Temporal-difference loss of both critics (Eq. 20)."""
        m, o = self.options.candidates, self.options
        with torch.no_grad():
            s = t.next_observations.repeat_interleave(m, -2)  # (*n, B M, S)
            next_z = None if z is None else z.repeat_interleave(m, -2)
            a = self.generator(s, self.noise(s, randn), next_z)
            a = perturb(a, self.perturbation_target(s, a, next_z), o.phi)
            value = loss.candidate_value(self.q_target(s, a, next_z), o.soft_min)
            target = loss.td_target(t.rewards, t.terminations, value.unflatten(-1, (-1, m)), o.discount)
        return td.squared_error(self.q(t.observations, t.actions, z), target)

    def perturbation_loss(self, t: Transitions, randn: Randn, z: Tensor | None = None) -> Tensor:
        """Loss of the perturbation by the first critic's values (Eq. 21)."""
        with torch.no_grad():
            a = self.generator(t.observations, self.noise(t.observations, randn), z)
        a = perturb(a, self.perturbation(t.observations, a, z), self.options.phi)
        return loss.perturbation_loss(self.first_q(t.observations, a, z))

    def noise(self, s: Tensor, randn: Randn) -> Tensor:
        """Draw clipped latent noise nu for every state."""
        return clipped_noise(randn(*s.shape[:-1], self.generator.latent_dim))

    def move_targets(self) -> None:
        """Let the target networks follow, at the rate tau."""
        move_towards(self.q_target, self.q, self.options.tau)
        move_towards(self.perturbation_target, self.perturbation, self.options.tau)

    def first_q(self, s: Tensor, a: Tensor, z: Tensor | None = None) -> Tensor:
        """Values of the first critic, by which candidates are chosen."""
        return self.q(s, a, z, member=0)

    def policy(self, inputs: nn.Module) -> BCQPolicy:
        """The policy that proposes candidates, perturbs them, and takes the best by the first critic."""
        o = self.options
        return BCQPolicy(self.generator, self.perturbation, self.first_q, o.candidates, o.phi, inputs)


class BCQ(PerTask):
    """K teachers Q_i, G_i, xi_i, each learned from its own task's batch.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if fewer than all official training tasks.
        hidden: Hidden layers of critics and perturbation.
        vae_hidden: Hidden layers of the CVAE's encoder and decoder.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        discount: gamma.
        tau: Rate at which target networks follow.
        soft_min: lambda, the weight of the smaller critic (Eq. 20).
        phi: Largest perturbation of an action.
        candidates: Candidate actions of the target and when acting.
        updates_per_block: Gradient updates of a Lightning batch.
        seed: Seed of the updates' randomness.
        layer_norm: Normalise what enters the critics' ReLUs.
        standardise: Standardise states for all networks, by each task's own statistics.
    """

    def __init__(
        self,
        distribution: str,
        num_tasks: PositiveInt | None = None,
        hidden: Sequence[PositiveInt] = (400, 300),
        vae_hidden: Sequence[PositiveInt] = (750, 750),
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 100,
        discount: UnitInterval = 0.99,
        tau: UnitInterval = 0.005,
        soft_min: UnitInterval = 0.75,
        phi: UnitInterval = 0.05,
        candidates: PositiveInt = 10,
        updates_per_block: PositiveInt = 50,
        seed: Seed = 0,
        layer_norm: bool = False,
        standardise: bool = False,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters()
        self.batch_size, self.lr, members = batch_size, lr, (self.num_tasks,)
        self.inputs = Standardiser(self.dims[0], members) if standardise else self.inputs
        options, widths = BCQOptions(discount, tau, soft_min, phi, candidates), (hidden, vae_hidden, hidden)
        self.networks = BCQNetworks(self.dims, *widths, options, members=members, layer_norm=layer_norm)

    def configure_optimizers(self) -> list[Adam]:
        """Make one Adam for each of the three losses, over the stacked weights of all tasks."""
        nets = self.networks
        groups = ((nets.generator, nets.latent), (nets.q,), (nets.perturbation,))
        return [self.adam(self.lr, *modules) for modules in groups]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Train the CVAE, the critics and the perturbation in BCQ's order, then move the targets."""
        vae, q, perturbation = self.optimizer_list()
        t, nets = self.standardised(batch.transitions), self.networks
        losses = {"vae_loss": nets.vae_loss(t, self.randn)}
        self.step(vae, losses["vae_loss"])
        losses["q_loss"] = nets.q_loss(t, self.randn)
        self.step(q, losses["q_loss"])
        losses["perturbation_loss"] = nets.perturbation_loss(t, self.randn)
        self.step(perturbation, losses["perturbation_loss"])
        nets.move_targets()
        return {name: value / len(self.share.tasks) for name, value in losses.items()}

    def policy(self) -> BCQPolicy:
        """The policies of all teachers, each for its own task."""
        return self.networks.policy(self.inputs)


def load_bcq(checkpoint: Checkpoint, distribution: str) -> BCQ:
    """Read the teachers Q_i, G_i, xi_i of a checkpoint, whose weights get no gradients.

    Raises:
        CheckpointError: If the checkpoint is of another method or distribution.
    """
    checkpoint.check(method="BCQ", distribution=distribution)
    hyper_parameters = checkpoint.content["hyper_parameters"].items()
    bcq = BCQ(**{name: value for name, value in hyper_parameters if not name.startswith("_")})  # Lightning's own
    bcq.load_state_dict(checkpoint.state_dict)
    return bcq.requires_grad_(False)
