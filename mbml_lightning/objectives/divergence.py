"""Kullback-Leibler divergences of diagonal Gaussians, the d of Eq. 8."""

from jaxtyping import Float
from torch import Tensor

from mbml_lightning.types import Gaussian


def kl(p: Gaussian, q: Gaussian) -> Float[Tensor, "*n"]:
    """KL(p || q) = sum_z log(sigma_q / sigma_p) + (sigma_p^2 + (mu_p - mu_q)^2) / (2 sigma_q^2) - 1/2.

    Summed over the dimensions of z; logarithms are summed, since a product of variance ratios overflows.

    Example:
        >>> import torch
        >>> from mbml_lightning.objectives.divergence import kl
        >>> from mbml_lightning.types import Gaussian
        >>> p, q = Gaussian(torch.tensor([3.0, 4.0]), torch.ones(2)), Gaussian(torch.zeros(2), torch.ones(2))
        >>> kl(p, q)
        tensor(12.5000)
    """
    log_ratio = q.variance.log() - p.variance.log()
    scaled = (p.variance + (p.mean - q.mean).square()) / q.variance
    return 0.5 * (log_ratio + scaled - 1).sum(-1)


def kl_to_prior(p: Gaussian) -> Float[Tensor, "*n"]:
    """KL(p || N(0, I)), summed over the dimensions of z (Eq. 3)."""
    return 0.5 * (p.variance + p.mean.square() - 1 - p.variance.log()).sum(-1)
