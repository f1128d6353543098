"""The losses of PEARL's soft actor-critic (Rakelly et al., 2019; Algorithm 6): with a state value, no temperature.

Losses are means over transitions and tasks.
"""

from jaxtyping import Float
from torch import Tensor


def q_target(
    rewards: Float[Tensor, "*n"],
    terminations: Float[Tensor, "*n"],
    next_v: Float[Tensor, "*n"],
    discount: float,
    reward_scale: float,
) -> Float[Tensor, "*n"]:
    """Scaled reward plus gamma V'(s'); the scale stands in for a temperature."""
    return reward_scale * rewards + (1 - terminations) * discount * next_v


def q_loss(q: Float[Tensor, "2 *n"], target: Float[Tensor, "*n"]) -> Float[Tensor, ""]:
    """Mean squared error of the two critics, summed over them."""
    return (q - target).square().flatten(1).mean(1).sum()


def soft_value(q: Float[Tensor, "2 *n"], log_prob: Float[Tensor, "*n"]) -> Float[Tensor, "*n"]:
    """Target of V(s): min(Q1, Q2)(s, a) - log pi(a | s), a from the current actor."""
    return q.amin(0) - log_prob


def actor_loss(
    q: Float[Tensor, "2 *n"],
    log_prob: Float[Tensor, "*n"],
    mean: Float[Tensor, "*n A"],
    log_std: Float[Tensor, "*n A"],
    weight: float,
) -> Float[Tensor, ""]:
    """log pi(a | s) - min(Q1, Q2)(s, a), a reparametrised, and a pull of the Gaussian's parameters towards 0."""
    return -soft_value(q, log_prob).mean() + weight * (mean.square().mean() + log_std.square().mean())
