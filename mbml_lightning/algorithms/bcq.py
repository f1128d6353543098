"""Phase 1: batch-constrained Q-learning on K stacked tasks (Algorithm 4, line 1; Algorithm 7 without z)."""

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.optim import Adam

from mbml_lightning.nets.heads import (
    CandidateEncoder,
    CandidateGenerator,
    Perturbation,
    QFunction,
    clipped_noise,
    perturb,
)
from mbml_lightning.nets.mlp import fan_in_uniform
from mbml_lightning.objectives import bcq as loss
from mbml_lightning.policies.bcq import BCQPolicy
from mbml_lightning.training.algorithm import Algorithm, move_towards
from mbml_lightning.types import TaskBatch, Transitions


class BCQLosses:
    """The losses of BCQ and how it acts, for a stack of tasks or, given z, for all of them.

    What is named here is set by the class that uses it.
    """

    q: QFunction
    q_target: QFunction
    perturbation: Perturbation
    perturbation_target: Perturbation
    generator: CandidateGenerator
    latent: CandidateEncoder
    discount: float
    soft_min: float
    phi: float
    candidates: int
    tau: float
    randn: Callable[..., Tensor]

    def vae_loss(self, t: Transitions, z: Tensor | None = None) -> Tensor:
        """Eq. 19."""
        mean, std = self.latent(t.observations, t.actions, z)
        nu = mean + std * self.randn(*std.shape)
        return loss.vae_loss(self.generator(t.observations, nu, z), t.actions, mean, std)

    def q_loss(self, t: Transitions, z: Tensor | None = None) -> Tensor:
        """Eq. 20."""
        with torch.no_grad():
            s = t.next_observations.repeat_interleave(self.candidates, -2)
            next_z = None if z is None else z.repeat_interleave(self.candidates, -2)
            a = self.generator(s, self.noise(s), next_z)
            a = perturb(a, self.perturbation_target(s, a, next_z), self.phi)
            value = loss.candidate_value(self.q_target(s, a, next_z), self.soft_min)
            value = value.unflatten(-1, (-1, self.candidates))
            target = loss.td_target(t.rewards, t.terminations, value, self.discount)
        return loss.q_loss(self.q(t.observations, t.actions, z), target)

    def perturbation_loss(self, t: Transitions, z: Tensor | None = None) -> Tensor:
        """Eq. 21, with the first critic."""
        with torch.no_grad():
            a = self.generator(t.observations, self.noise(t.observations), z)
        a = perturb(a, self.perturbation(t.observations, a, z), self.phi)
        return loss.perturbation_loss(self.first_q(t.observations, a, z))

    def noise(self, s: Tensor) -> Tensor:
        """Clipped latent noise nu for every state."""
        return clipped_noise(self.randn(*s.shape[:-1], self.generator.latent_dim))

    def move_targets(self) -> None:
        """Targets follow, at the rate tau."""
        move_towards(self.q_target, self.q, self.tau)
        move_towards(self.perturbation_target, self.perturbation, self.tau)

    def first_q(self, s: Tensor, a: Tensor, z: Tensor | None = None) -> Tensor:
        """The first critic, by which candidates are chosen."""
        values: Tensor = self.q(s, a, z, member=0)
        return values

    def policy(self) -> BCQPolicy:
        """Proposes, perturbs, and takes the best candidate by the first critic."""
        return BCQPolicy(self.generator, self.perturbation, self.first_q, self.candidates, self.phi)


class BCQ(BCQLosses, Algorithm):
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
    """

    def __init__(
        self,
        distribution: str,
        num_tasks: int | None = None,
        hidden: Sequence[int] = (400, 300),
        vae_hidden: Sequence[int] = (750, 750),
        lr: float = 3e-4,
        batch_size: int = 100,
        discount: float = 0.99,
        tau: float = 0.005,
        soft_min: float = 0.75,
        phi: float = 0.05,
        candidates: int = 10,
        updates_per_block: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters()
        self.batch_size, self.lr, self.discount, self.tau = batch_size, lr, discount, tau
        self.soft_min, self.phi, self.candidates = soft_min, phi, candidates
        dims, k, init = self.dims, self.num_tasks, fan_in_uniform
        self.q = QFunction(*dims, hidden, members=(2, k), init=init)
        self.perturbation = Perturbation(*dims, hidden, members=(k,), init=init)
        self.generator = CandidateGenerator(*dims, vae_hidden, members=(k,), init=init)
        self.latent = CandidateEncoder(*dims, vae_hidden, members=(k,), init=init)
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.perturbation_target = copy.deepcopy(self.perturbation).requires_grad_(False)

    def configure_optimizers(self) -> list[Adam]:
        """One Adam for each of the three losses, over the stacked weights of all tasks."""
        groups = ((self.generator, self.latent), (self.q,), (self.perturbation,))
        return [self.adam(self.lr, *modules) for modules in groups]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """CVAE, critics, perturbation, targets, in BCQ's order."""
        vae, q, perturbation = self.optimizer_list()
        losses = {"vae_loss": self.vae_loss(batch.transitions)}
        self.step(vae, losses["vae_loss"])
        losses["q_loss"] = self.q_loss(batch.transitions)
        self.step(q, losses["q_loss"])
        losses["perturbation_loss"] = self.perturbation_loss(batch.transitions)
        self.step(perturbation, losses["perturbation_loss"])
        self.move_targets()
        return {name: value / len(self.share.tasks) for name, value in losses.items()}
