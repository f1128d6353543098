"""The losses of BCQ (Fujimoto et al., 2019; Algorithm 7 writes them with a task identity).

Losses are means over transitions and sums over tasks: only then does one Adam on stacked weights make the updates
of K separate ones. The critics' loss is `td.squared_error`.
"""

from jaxtyping import Float
from torch import Tensor

from mbml_lightning.objectives.td import bellman_target


def vae_loss(
    reconstruction: Float[Tensor, "*n B A"],
    actions: Float[Tensor, "*n B A"],
    mean: Float[Tensor, "*n B L"],
    std: Float[Tensor, "*n B L"],
) -> Float[Tensor, ""]:
    """Add the squared reconstruction error and 1/2 KL(N(mean, std^2) || N(0, I)), means over dimensions (Eq. 19)."""
    error = (reconstruction - actions).square().mean((-2, -1))
    divergence = -0.5 * (1 + 2 * std.log() - mean.square() - std.square()).mean((-2, -1))
    return (error + 0.5 * divergence).sum()


def candidate_value(q: Float[Tensor, "2 *n"], soft_min: float) -> Float[Tensor, "*n"]:
    """Compute lambda min(Q1, Q2) + (1 - lambda) max(Q1, Q2) (Eq. 20)."""
    return soft_min * q.amin(0) + (1 - soft_min) * q.amax(0)


def td_target(
    rewards: Float[Tensor, "*n"],
    terminations: Float[Tensor, "*n"],
    candidate_values: Float[Tensor, "*n M"],
    discount: float,
) -> Float[Tensor, "*n"]:
    """Compute r + gamma max_m of the candidates' values (Eq. 20)."""
    return bellman_target(rewards, terminations, candidate_values.amax(-1), discount)


def perturbation_loss(q: Float[Tensor, "*n B"]) -> Float[Tensor, ""]:
    """Return minus the value of perturbed candidates (Eq. 21)."""
    return -q.mean(-1).sum()
