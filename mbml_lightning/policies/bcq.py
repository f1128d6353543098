"""Acting by proposing, perturbing and taking the best (Eq. 1, Figures 3 and 10)."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mbml_lightning.nets.heads import CandidateGenerator, Perturbation, best_candidate, clipped_noise, perturb


@dataclass(frozen=True)
class BCQPolicy:
    """BCQ's policy of a stack of tasks, or of all tasks given z.

    Args:
        generator: G, proposes candidate actions.
        perturbation: xi, corrects them.
        q: Q, chooses among them.
        candidates: Candidate actions a state (M).
        phi: Largest correction of an action.

    Example:
        >>> import torch
        >>> from mbml_lightning.nets.heads import CandidateGenerator, Perturbation, QFunction
        >>> from mbml_lightning.policies.bcq import BCQPolicy
        >>> nets = [kind(4, 2, hidden=[16], z_dim=3) for kind in (CandidateGenerator, Perturbation, QFunction)]
        >>> policy = BCQPolicy(*nets, candidates=10)
        >>> s, z, noise = torch.zeros(5, 8, 4), torch.zeros(5, 8, 3), torch.randn(5, 8, policy.noise_dim)
        >>> policy.act(s, z, noise).shape  # 5 tasks with 8 simulations each
        torch.Size([5, 8, 2])
    """

    generator: CandidateGenerator
    perturbation: Perturbation
    q: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    candidates: int = 10
    phi: float = 0.05

    @property
    def noise_dim(self) -> int:
        """One latent a candidate."""
        return self.candidates * self.generator.latent_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """The corrected candidate of highest value."""
        s = observations.repeat_interleave(self.candidates, -2)
        z = None if z is None else z.repeat_interleave(self.candidates, -2)
        nu = clipped_noise(noise.reshape(*s.shape[:-1], -1))
        a = self.generator(s, nu, z)
        a = perturb(a, self.perturbation(s, a, z), self.phi)
        q = self.q(s, a, z).unflatten(-1, (-1, self.candidates))
        return best_candidate(a.unflatten(-2, (-1, self.candidates)), q)
