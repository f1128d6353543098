"""Task inference q_phi(z | c): every row of a context is a Gaussian factor, the posterior is their product."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mbml_lightning.nets.mlp import MLP, fan_out_uniform
from mbml_lightning.types import Gaussian, Transitions

SMALLEST_VARIANCE = 1e-7
SMALLEST_SPREAD = 1e-3


class TaskEncoder(nn.Module):
    """Gaussian factors of single transitions (the architecture of PEARL, Table 4).

    Rows are encoded once: the posterior over any set of rows is a masked product of their factors (`product`).

    Args:
        observation_dim: Dimensions of s.
        action_dim: Dimensions of a.
        z_dim: Dimensions of the task identity.
        hidden: Widths of the hidden layers.
    """

    shift: Tensor
    spread: Tensor

    def __init__(self, observation_dim: int, action_dim: int, z_dim: int, hidden: Sequence[int]) -> None:
        super().__init__()
        self.z_dim = z_dim
        inputs = 2 * observation_dim + action_dim + 1
        self.mlp = MLP([inputs, *hidden, 2 * z_dim], init=fan_out_uniform)
        self.register_buffer("shift", torch.zeros(inputs))
        self.register_buffer("spread", torch.ones(inputs))

    def standardise(self, rows: Transitions) -> None:
        """Shift and scale inputs from now on to mean 0 and deviation 1 over ``rows``; only shift constant ones."""
        over = tuple(range(rows.rewards.ndim))
        # Field by field: all of them side by side would be a copy of the whole data.
        fields = (torch.std_mean(field, over) for field in _fields(rows))
        spread, mean = (torch.cat(parts) for parts in zip(*fields, strict=True))
        self.shift.copy_(mean)
        self.spread.copy_(torch.where(spread > SMALLEST_SPREAD, spread, 1.0))

    def forward(self, rows: Transitions) -> Gaussian:
        """Return the Gaussian factors of rows (s, a, s', r) with any leading axes."""
        mean, spread = self.mlp((torch.cat(_fields(rows), -1) - self.shift) / self.spread).chunk(2, -1)
        return Gaussian(mean, F.softplus(spread).clamp_min(SMALLEST_VARIANCE))


def _fields(rows: Transitions) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return rows.observations, rows.actions, rows.next_observations, rows.rewards.unsqueeze(-1)


def product(factors: Gaussian, mask: Bool[Tensor, "*n C"] | None = None) -> Gaussian:
    """Multiply Gaussian factors ``(*n, C, Z)`` along their rows and normalise: the posterior ``(*n, Z)``.

    Args:
        factors: One Gaussian a row; leading axes broadcast against the mask's.
        mask: Which rows take part, all of them if None. An empty product is the prior N(0, I) (Algorithm 5, line 1).

    Example:
        >>> import torch
        >>> from mbml_lightning.nets.task_encoder import product
        >>> from mbml_lightning.types import Gaussian
        >>> factors = Gaussian(torch.tensor([[0.0], [2.0]]), torch.ones(2, 1))  # two rows of a context
        >>> product(factors)
        Gaussian(mean=tensor([1.]), variance=tensor([0.5000]))
    """
    precision = factors.variance.reciprocal()  # (*n, C, Z)
    weighted = precision * factors.mean
    if mask is not None:
        left_out = ~mask.unsqueeze(-1)
        precision, weighted = precision.masked_fill(left_out, 0.0), weighted.masked_fill(left_out, 0.0)
    precision, weighted = precision.sum(-2), weighted.sum(-2)  # (*n, Z)
    precision = torch.where(precision > 0, precision, 1.0)  # of an empty product: its mean is then 0 / 1
    return Gaussian(weighted / precision, precision.reciprocal())


def sample(posterior: Gaussian) -> Float[Tensor, "*n Z"]:
    """Draw one reparametrised sample of each posterior."""
    return posterior.mean + posterior.variance.sqrt() * torch.randn_like(posterior.mean)
