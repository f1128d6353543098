"""Baseline: BCQ whose networks are told a task identity, which the values teach to infer (Algorithm 7)."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam

from mbml_lightning.algorithms.bcq import BCQLosses
from mbml_lightning.algorithms.contextual import ContextualAlgorithm, sample_rows
from mbml_lightning.nets.heads import CandidateEncoder, CandidateGenerator, Perturbation, QFunction
from mbml_lightning.nets.mlp import fan_in_uniform
from mbml_lightning.types import TaskBatch, Transitions


class ContextualBCQ(BCQLosses, ContextualAlgorithm):
    """One BCQ for all tasks: Q(s, a, z), G(s, nu, z), xi(s, a, z).

    Args:
        distribution: Name of the task distribution.
        q_hidden: Hidden layers of the critics.
        vae_hidden: Hidden layers of the CVAE's encoder and decoder.
        perturbation_hidden: Hidden layers of the perturbation.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        discount: gamma.
        tau: Rate at which target networks follow.
        soft_min: lambda, the weight of the smaller critic (Eq. 20).
        phi: Largest perturbation of an action.
        candidates: Candidate actions of the target and when acting.
        kl_weight: Weight of KL(q(c) || N(0, I)), which Algorithm 7 has not.
        vae_trains_encoder: Let the CVAE's loss train the encoder too (official code), not only the critics' (paper).
        inference: As for `ContextualAlgorithm`.
    """

    def __init__(
        self,
        distribution: str,
        q_hidden: Sequence[int] = (1024,) * 9,
        vae_hidden: Sequence[int] = (1024,) * 7,
        perturbation_hidden: Sequence[int] = (1024,) * 8,
        lr: float = 3e-4,
        batch_size: int = 128,
        discount: float = 0.99,
        tau: float = 0.005,
        soft_min: float = 0.75,
        phi: float = 0.05,
        candidates: int = 10,
        kl_weight: float = 0.0,
        vae_trains_encoder: bool = False,
        **inference: Any,
    ) -> None:
        super().__init__(distribution, kl_weight=kl_weight, **inference)
        self.batch_size, self.lr, self.discount, self.tau = batch_size, lr, discount, tau
        self.soft_min, self.phi, self.candidates = soft_min, phi, candidates
        self.vae_trains_encoder = vae_trains_encoder
        dims, z_dim, init = self.dims, self.encoder.z_dim, fan_in_uniform
        self.q = QFunction(*dims, q_hidden, z_dim, members=(2,), init=init)
        self.perturbation = Perturbation(*dims, perturbation_hidden, z_dim, init=init)
        self.generator = CandidateGenerator(*dims, vae_hidden, z_dim, init=init)
        self.latent = CandidateEncoder(*dims, vae_hidden, z_dim, init=init)
        self.q_target = copy.deepcopy(self.q).requires_grad_(False)
        self.perturbation_target = copy.deepcopy(self.perturbation).requires_grad_(False)

    def configure_optimizers(self) -> list[Adam]:
        """One Adam for each of the three losses; the encoder learns with the critics."""
        groups = ((self.generator, self.latent), (self.q, self.encoder, self.hooks), (self.perturbation,))
        return [self.adam(self.lr, *modules) for modules in groups]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """CVAE, critics with the encoder, perturbation, targets (Algorithm 7, lines 5 to 16)."""
        vae, q, perturbation = self.optimizer_list()
        step, logged = self.infer(batch)
        z = sample_rows(step.posterior, batch.transitions.rewards.shape[1]).flatten(0, 1)
        t, fixed_z = Transitions(*(x.flatten(0, 1) for x in batch.transitions)), z.detach()
        losses = {"vae_loss": self.vae_loss(t, fixed_z)}
        self.step(vae, losses["vae_loss"])
        inference = {"q_loss": self.q_loss(t, z)} | self.inference_losses(step)
        total = torch.stack(list(inference.values())).sum()
        self.step(q, total + self.vae_loss(t, z) if self.vae_trains_encoder else total)
        losses |= inference | {"perturbation_loss": self.perturbation_loss(t, fixed_z)}
        self.step(perturbation, losses["perturbation_loss"])
        self.move_targets()
        return losses | logged
