"""The losses of PEARL's soft actor-critic (Rakelly et al., 2019; Algorithm 6): with a state value, no temperature.

Losses are means over transitions and tasks.
"""

from jaxtyping import Float
from torch import Tensor

from mbml_lightning.objectives.td import bellman_target, squared_error


def q_target(
    rewards: Float[Tensor, "*n"],
    terminations: Float[Tensor, "*n"],
    next_v: Float[Tensor, "*n"],
    discount: float,
    reward_scale: float,
) -> Float[Tensor, "*n"]:
    """Compute c r + gamma V'(s'), whose reward scale c stands in for a temperature."""
    return bellman_target(reward_scale * rewards, terminations, next_v, discount)


def q_loss(q: Float[Tensor, "2 *n"], target: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Average the critics' squared errors over transitions and tasks alike, and sum them over the two critics."""
    return squared_error(q.flatten(1), target.flatten())


def soft_value(q: Float[Tensor, "2 *n"], log_prob: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Compute min(Q1, Q2)(s, a) - log pi(a | s), the target of V(s), a from the current actor."""
    return q.amin(0) - log_prob


def actor_loss(
    q: Float[Tensor, "2 *n"],
    log_prob: Float[Tensor, "*n"],
    mean: Float[Tensor, "*n A"],
    log_std: Float[Tensor, "*n A"],
    weight: float,
) -> Float[Tensor, ""]:
    """Add log pi(a | s) - min(Q1, Q2)(s, a), a reparametrised, and weighted squares of the Gaussian's parameters."""
    return -soft_value(q, log_prob).mean() + weight * (mean.square().mean() + log_std.square().mean())
