"""Temporal differences: the target and the error that BCQ, SAC and PEARL share."""

from jaxtyping import Float
from torch import Tensor


def bellman_target(
    rewards: Float[Tensor, "*n"], terminations: Float[Tensor, "*n"], next_values: Float[Tensor, "*n"], discount: float
) -> Float[Tensor, "*n"]:
    """Compute r + gamma V(s'), where nothing follows a termination but something follows a time limit."""
    return rewards + (1 - terminations) * discount * next_values


def squared_error(q: Float[Tensor, "E *n B"], target: Float[Tensor, "*n B"]) -> Float[Tensor, ""]:
    """Average (Q - y)^2 over transitions and sum it over tasks and critics, which share the target y."""
    return (q - target).square().mean(-1).sum()
