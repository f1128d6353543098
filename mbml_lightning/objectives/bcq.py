"""The losses of BCQ (Fujimoto et al., 2019; Algorithm 7 writes them with a task identity).

Losses are means over transitions and sums over tasks: only then does one Adam on stacked weights make the updates
of K separate ones.
"""

from jaxtyping import Float
from torch import Tensor


def vae_loss(
    reconstruction: Float[Tensor, "*n B A"],
    actions: Float[Tensor, "*n B A"],
    mean: Float[Tensor, "*n B L"],
    std: Float[Tensor, "*n B L"],
) -> Float[Tensor, ""]:
    """Eq. 19: mean squared reconstruction error + 1/2 KL(N(mean, std^2) || N(0, I)), both averaged over dimensions."""
    error = (reconstruction - actions).square().mean((-2, -1))
    divergence = -0.5 * (1 + 2 * std.log() - mean.square() - std.square()).mean((-2, -1))
    return (error + 0.5 * divergence).sum()


def candidate_value(q: Float[Tensor, "2 *n"], soft_min: float) -> Float[Tensor, "*n"]:
    """Eq. 20: lambda min(Q1, Q2) + (1 - lambda) max(Q1, Q2)."""
    return soft_min * q.amin(0) + (1 - soft_min) * q.amax(0)


def td_target(
    rewards: Float[Tensor, "*n"],
    terminations: Float[Tensor, "*n"],
    candidate_values: Float[Tensor, "*n M"],
    discount: float,
) -> Float[Tensor, "*n"]:
    """Eq. 20: r + gamma max_m of the candidates' values; nothing follows a termination, something a time limit."""
    return rewards + (1 - terminations) * discount * candidate_values.amax(-1)


def q_loss(q: Float[Tensor, "E *n B"], target: Float[Tensor, "*n B"]) -> Float[Tensor, ""]:
    """Squared error of each critic against the common target."""
    return (q - target).square().mean(-1).sum()


def perturbation_loss(q: Float[Tensor, "*n B"]) -> Float[Tensor, ""]:
    """Eq. 21: minus the value of perturbed candidates."""
    return -q.mean(-1).sum()
