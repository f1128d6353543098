"""FOCAL's distance metric learning (Li et al., "FOCAL", ICLR 2021): contexts of one task attract, others repel."""

import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.arguments import NonNegativeFloat, PositiveFloat
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.objectives.hooks import ContextStep, StepHook


def attraction(z: Float[Tensor, "K N Z"]) -> Float[Tensor, ""]:
    """Mean of ||z_i^n - z_i^n'||^2 over tasks and pairs n != n' of their contexts."""
    sets = z.shape[1]
    squared = (z.unsqueeze(2) - z.unsqueeze(1)).square().sum(-1)
    return squared.sum() / (len(z) * sets * (sets - 1))


def repulsion(z: Float[Tensor, "K N Z"], power: float, epsilon: float) -> Float[Tensor, ""]:
    """Mean of 1 / (||z_i^n - z_j^n'||^power + epsilon) over pairs of contexts of different tasks."""
    distance = (z[:, :, None, None] - z[None, None]).square().sum(-1).clamp_min(1e-12).sqrt()
    own = torch.eye(len(z), dtype=torch.bool, device=z.device)[:, None, :, None]
    near = (1 / (distance.pow(power) + epsilon)).masked_fill(own, 0.0)
    return near.sum() / (len(z) * (len(z) - 1) * z.shape[1] ** 2)


class FOCAL(StepHook):
    """||z_i - z_j||^2 within a task, beta / (||z_i - z_j||^n + epsilon) between tasks; z are posterior means.

    It separates tasks, but does not ask by what: where states tell the task, rewards may stay unread.

    Args:
        weight: Factor in front of the loss.
        beta: Factor of the repulsion.
        power: n, how fast the repulsion fades with distance.
        epsilon: Keeps the repulsion finite.
    """

    def __init__(
        self,
        weight: NonNegativeFloat = 1.0,
        beta: NonNegativeFloat = 1.0,
        power: NonNegativeFloat = 2.0,
        epsilon: PositiveFloat = 0.1,
    ) -> None:
        super().__init__()
        self.weight, self.beta, self.power, self.epsilon = weight, beta, power, epsilon

    def forward(self, step: ContextStep) -> Float[Tensor, ""]:
        """The loss of one step; needs two contexts a task or more."""
        if step.sets is None:
            raise ConfigurationError("FOCAL compares contexts of one task: set model.context_sets to 2 or more")
        z = step.sets.mean
        return self.weight * (attraction(z) + self.beta * repulsion(z, self.power, self.epsilon))
