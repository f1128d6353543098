"""The losses of soft actor-critic with a learned temperature (Haarnoja et al., 2018).

Losses are means over transitions and sums over tasks, as in `objectives.bcq`. The critics' is `td.squared_error`.
"""

from jaxtyping import Float
from torch import Tensor

from mbml_lightning.objectives.td import bellman_target


def soft_target(
    rewards: Float[Tensor, "*n"],
    terminations: Float[Tensor, "*n"],
    next_q: Float[Tensor, "2 *n"],
    next_log_prob: Float[Tensor, "*n"],
    alpha: Float[Tensor, "*m"],
    discount: float,
) -> Float[Tensor, "*n"]:
    """Compute r + gamma (min(Q1', Q2')(s', a') - alpha log pi(a' | s')), a' from the current actor."""
    return bellman_target(rewards, terminations, next_q.amin(0) - alpha * next_log_prob, discount)


def actor_loss(
    q: Float[Tensor, "2 *n B"], log_prob: Float[Tensor, "*n B"], alpha: Float[Tensor, "*m"]
) -> Float[Tensor, ""]:
    """Compute alpha log pi(a | s) - min(Q1, Q2)(s, a), a a reparametrised sample."""
    return (alpha * log_prob - q.amin(0)).mean(-1).sum()


def temperature_loss(
    log_alpha: Float[Tensor, "*m"], log_prob: Float[Tensor, "*n B"], target_entropy: float
) -> Float[Tensor, ""]:
    """Compute -log alpha (log pi + target entropy): alpha falls where the entropy -log pi exceeds its target."""
    return -(log_alpha * (log_prob + target_entropy)).mean(-1).sum()
