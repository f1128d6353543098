"""The teachers of phase 1, plainly."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Adam

from benchmarks.references.networks import Losses, Stacks, descend, mean_over_tasks, polyak, unstack
from mbml_lightning.algorithms import BCQ
from mbml_lightning.types import TaskBatch


class BCQReference:
    """K separate BCQs."""

    def __init__(self, ours: BCQ) -> None:
        self.nets, self.options, k = ours.networks, ours.networks.options, ours.num_tasks
        names = ("generator", "latent", "q", "q_target", "perturbation", "perturbation_target")
        self.stacks: Stacks = {name: unstack(getattr(self.nets, name).mlp) for name in names}
        self.tasks = [BCQTask(ours, {name: nets[i::k] for name, nets in self.stacks.items()}) for i in range(k)]

    def update(self, batch: TaskBatch) -> Losses:
        """Every task in turn."""
        t, candidates = batch.transitions, self.options.candidates
        shape = (*t.rewards.shape, self.nets.generator.latent_dim)
        noises = (
            torch.randn(shape, device=t.rewards.device),
            torch.randn(shape[0], shape[1] * candidates, shape[2], device=t.rewards.device),
            torch.randn(shape, device=t.rewards.device),
        )
        return mean_over_tasks([task.update(*(x[i] for x in (*t, *noises))) for i, task in enumerate(self.tasks)])


class BCQTask:
    """BCQ (Fujimoto et al., 2019) of one task."""

    def __init__(self, ours: BCQ, nets: Stacks) -> None:
        self.options = ours.networks.options
        self.q, self.q_target = nets["q"], nets["q_target"]
        (self.generator,), (self.latent,) = nets["generator"], nets["latent"]
        (self.perturbation,), (self.perturbation_target,) = nets["perturbation"], nets["perturbation_target"]
        vae = [*self.generator.parameters(), *self.latent.parameters()]
        critics = [*self.q[0].parameters(), *self.q[1].parameters()]
        self.vae_adam, self.q_adam = Adam(vae, ours.lr), Adam(critics, ours.lr)
        self.perturbation_adam = Adam(self.perturbation.parameters(), ours.lr)

    def perturbed(self, net: nn.Sequential, s: Tensor, a: Tensor) -> Tensor:
        """a + Phi xi(s, a)."""
        return (a + self.options.phi * torch.tanh(net(torch.cat([s, a], -1)))).clamp(-1, 1)

    def decode(self, s: Tensor, nu: Tensor) -> Tensor:
        """G(s, nu)."""
        return torch.tanh(self.generator(torch.cat([s, nu], -1)))

    def update(
        self, s: Tensor, a: Tensor, r: Tensor, next_s: Tensor, end: Tensor, noise: Tensor, nu_next: Tensor, nu: Tensor
    ) -> Losses:
        """CVAE, critics, perturbation, targets."""
        rows = torch.cat([s, a], -1)
        mean, log_std = self.latent(rows).chunk(2, -1)
        std = log_std.clamp(-4, 15).exp()
        divergence = -0.5 * (1 + torch.log(std**2) - mean**2 - std**2).mean()
        vae_loss = F.mse_loss(self.decode(s, mean + std * noise), a) + 0.5 * divergence
        descend(vae_loss, self.vae_adam)
        target = self.target(r, next_s, end, nu_next)
        q_loss = F.mse_loss(self.q[0](rows).squeeze(-1), target) + F.mse_loss(self.q[1](rows).squeeze(-1), target)
        descend(q_loss, self.q_adam)
        with torch.no_grad():
            candidate = self.decode(s, nu.clamp(-0.5, 0.5))
        candidate = self.perturbed(self.perturbation, s, candidate)
        perturbation_loss = -self.q[0](torch.cat([s, candidate], -1)).mean()
        descend(perturbation_loss, self.perturbation_adam)
        pairs = [*zip(self.q_target, self.q, strict=True), (self.perturbation_target, self.perturbation)]
        for target_net, net in pairs:
            polyak(target_net, net, self.options.tau)
        return {"vae_loss": vae_loss, "q_loss": q_loss, "perturbation_loss": perturbation_loss}

    @torch.no_grad()
    def target(self, r: Tensor, next_s: Tensor, end: Tensor, nu: Tensor) -> Tensor:
        """The value of the best of several candidates."""
        s = next_s.repeat_interleave(self.options.candidates, 0)
        a = self.perturbed(self.perturbation_target, s, self.decode(s, nu.clamp(-0.5, 0.5)))
        first, second = (net(torch.cat([s, a], -1)) for net in self.q_target)
        weight = self.options.soft_min
        value = weight * torch.min(first, second) + (1 - weight) * torch.max(first, second)
        following: Tensor = value.view(len(r), -1).amax(1)
        return r + (1 - end) * self.options.discount * following
