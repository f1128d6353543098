"""Baseline: BCQ whose networks are told a task identity, which the values teach to infer (Algorithm 7)."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor
from torch.optim import Adam

from mbml_lightning.algorithms.bcq import BCQNetworks, BCQOptions
from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.arguments import NonNegativeFloat, PositiveFloat, PositiveInt, UnitInterval
from mbml_lightning.policies.bcq import BCQPolicy
from mbml_lightning.training.algorithm import total
from mbml_lightning.types import TaskBatch


class ContextualBCQ(ContextualAlgorithm):
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
        q_hidden: Sequence[PositiveInt] = (1024,) * 9,
        vae_hidden: Sequence[PositiveInt] = (1024,) * 7,
        perturbation_hidden: Sequence[PositiveInt] = (1024,) * 8,
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 128,
        discount: UnitInterval = 0.99,
        tau: UnitInterval = 0.005,
        soft_min: UnitInterval = 0.75,
        phi: UnitInterval = 0.05,
        candidates: PositiveInt = 10,
        kl_weight: NonNegativeFloat = 0.0,
        vae_trains_encoder: bool = False,
        **inference: Any,
    ) -> None:
        super().__init__(distribution, kl_weight=kl_weight, **inference)
        self.batch_size, self.lr, self.vae_trains_encoder = batch_size, lr, vae_trains_encoder
        options = BCQOptions(discount, tau, soft_min, phi, candidates)
        hidden = (q_hidden, vae_hidden, perturbation_hidden)
        self.networks = BCQNetworks(self.dims, *hidden, options, self.encoder.z_dim)

    def configure_optimizers(self) -> list[Adam]:
        """Make one Adam for each of the three losses; the encoder learns with the critics."""
        nets = self.networks
        groups = ((nets.generator, nets.latent), (nets.q, self.encoder, self.hooks), (nets.perturbation,))
        return [self.adam(self.lr, *modules) for modules in groups]

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Train CVAE, critics with encoder, and perturbation; move the targets (Algorithm 7, lines 5 to 16)."""
        vae, q, perturbation = self.optimizer_list()
        step, nets = self.infer(batch, self.relabel(batch)), self.networks
        t = self.standardised(batch.transitions).map(lambda x: x.flatten(0, 1))  # (K B): one set for all tasks
        z = step.z_of_rows(batch.transitions.rewards.shape[1]).flatten(0, 1)
        fixed_z = z.detach()
        losses = {"vae_loss": nets.vae_loss(t, self.randn, fixed_z)}
        self.step(vae, losses["vae_loss"])
        inference = self.with_encoder_losses({"q_loss": nets.q_loss(t, self.randn, z)}, step)
        summed = total(inference)
        self.step(q, summed + nets.vae_loss(t, self.randn, z) if self.vae_trains_encoder else summed)
        losses |= inference | {"perturbation_loss": nets.perturbation_loss(t, self.randn, fixed_z)}
        self.step(perturbation, losses["perturbation_loss"])
        nets.move_targets()
        return self.logged(losses, step)

    def policy(self) -> BCQPolicy:
        """The policy that acts for any task, given z."""
        return self.networks.policy(self.inputs)
