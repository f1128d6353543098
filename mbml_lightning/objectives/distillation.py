"""Distillation of the K teachers into one student that knows the task identity (Eq. 3 to 5)."""

from jaxtyping import Float
from torch import Tensor


def value_distillation(q: Float[Tensor, "K B"], teacher_q: Float[Tensor, "K B"]) -> Float[Tensor, ""]:
    """Eq. 3, first term: mean over tasks and rows of (Q_i(s, a) - Q_D(s, a, z_i))^2."""
    return (teacher_q - q).square().mean()


def candidate_distillation(a: Float[Tensor, "K B A"], teacher_a: Float[Tensor, "K B A"]) -> Float[Tensor, ""]:
    """Eq. 4: (G_i(s, nu) - G_D(s, nu, z_i))^2, averaged over the action's dimensions too, as the official code does."""
    return (teacher_a - a).square().mean()


def perturbation_distillation(xi: Float[Tensor, "K B A"], teacher_xi: Float[Tensor, "K B A"]) -> Float[Tensor, ""]:
    """Eq. 5: (xi_i(s, a) - xi_D(s, a, z_i))^2 for a = G_i(s, nu), before the scale Phi."""
    return (teacher_xi - xi).square().mean()
