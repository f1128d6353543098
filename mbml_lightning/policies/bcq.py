"""BCQ's policy: propose actions, perturb them and take the best (Eq. 1, Figures 3 and 10)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.nets.heads import CandidateGenerator, Perturbation, best_candidate, clipped_noise, perturb


@dataclass(frozen=True)
class BCQPolicy:
    """The policies of a stack of tasks, or one policy of all tasks given z.

    Args:
        generator: G, proposes candidate actions.
        perturbation: xi, corrects them.
        q: Q, chooses among them.
        candidates: Candidate actions a state (M).
        phi: Largest correction of an action.
        inputs: What the networks see of a state.

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
    inputs: Callable[[Tensor], Tensor] = field(default_factory=nn.Identity)

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action needs: one latent vector for each candidate."""
        return self.candidates * self.generator.latent_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Return the corrected candidate of highest value in each state (Eq. 1)."""
        s = self.inputs(observations).repeat_interleave(self.candidates, -2)  # (K, B M, S): neighbours are of one state
        z = None if z is None else z.repeat_interleave(self.candidates, -2)
        nu = clipped_noise(noise.reshape(*s.shape[:-1], -1))  # (K, B M, L)
        a = self.generator(s, nu, z)
        a = perturb(a, self.perturbation(s, a, z), self.phi)
        q = self.q(s, a, z).unflatten(-1, (-1, self.candidates))  # (K, B, M)
        return best_candidate(a.unflatten(-2, (-1, self.candidates)), q)
