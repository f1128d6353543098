"""Reconstruction of rewards and next states from (s, a, z): GENTLE (Zhou et al., AAAI 2024), UNICORN (NeurIPS 2024)."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from mbml_lightning.arguments import NonNegativeFloat, PositiveInt
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.objectives.hooks import ContextStep, StepHook

LOWEST_LOG_VARIANCE = -10.0
"""Keeps the likelihood of what can be predicted without error finite."""


def squared_error(prediction: Float[Tensor, "*n D"], target: Float[Tensor, "*n D"]) -> Float[Tensor, ""]:
    """Average (target - prediction)^2 over rows and dimensions."""
    return (target - prediction).square().mean()


def gaussian_nll(
    mean: Float[Tensor, "*n D"], log_variance: Float[Tensor, "*n D"], target: Float[Tensor, "*n D"]
) -> Float[Tensor, ""]:
    """Average -log N(target; mean, exp(log_variance)) over rows and dimensions."""
    scaled = (target - mean).square() * (-log_variance).exp()
    return 0.5 * (scaled + log_variance + math.log(2 * math.pi)).mean()


def predicted_nll(prediction: Float[Tensor, "*n D2"], target: Float[Tensor, "*n D"]) -> Float[Tensor, ""]:
    """Average the negative log-likelihood of targets whose means and log variances are predicted side by side."""
    mean, spread = prediction.chunk(2, -1)
    return gaussian_nll(mean, LOWEST_LOG_VARIANCE + F.softplus(spread - LOWEST_LOG_VARIANCE), target)


class Reconstruction(StepHook):
    """Errors of decoders of rewards and state changes s' - s from (s, a, z): z has to tell what (s, a) does not.

    Each task's own context rows are decoded, and no relabelled ones, even where those take part in the inference. z is
    the sample of the task's pooled posterior, the same for all of its rows. Targets are not standardised.

    The defaults are UNICORN's: two Gaussian decoders of weight 1. GENTLE takes the squared error with a weight of 10,
    averaged over reward and state together, and decodes rewards only where tasks share their physics.

    Args:
        error: "nll", the negative log-likelihood of a Gaussian whose variance is predicted too, or "squared" error.
        hidden: Hidden layers of each decoder.
        reward_weight: Factor of the rewards' error; at 0, no decoder of rewards is made.
        next_state_weight: Factor of the error of s' - s; at 0, no decoder of state changes is made.
    """

    decoders: nn.ModuleDict

    def __init__(
        self,
        error: Literal["nll", "squared"] = "nll",
        hidden: Sequence[PositiveInt] = (128, 128),
        reward_weight: NonNegativeFloat = 1.0,
        next_state_weight: NonNegativeFloat = 1.0,
    ) -> None:
        super().__init__()
        self.error, self.hidden = error, hidden
        self.weights = {"reward": reward_weight, "next_state": next_state_weight}

    def build(self, observation_dim: int, action_dim: int, z_dim: int, num_tasks: int) -> None:
        """Make a decoder for each target of positive weight; arguments as for `StepHook.build`."""
        inputs, numbers = observation_dim + action_dim + z_dim, 2 if self.error == "nll" else 1
        self.decoders = nn.ModuleDict(
            {
                name: MLP([inputs, *self.hidden, numbers * size])
                for name, size in (("reward", 1), ("next_state", observation_dim))
                if self.weights[name] > 0
            }
        )

    def forward(self, step: ContextStep) -> dict[str, Float[Tensor, ""]]:
        """Return the weighted errors of one step, ``reward`` and ``next_state``."""
        rows = step.contexts  # (K, C)
        inputs = torch.cat([rows.observations, rows.actions, step.z_of_rows(rows.rewards.shape[1])], -1)
        targets = {"reward": rows.rewards.unsqueeze(-1), "next_state": rows.next_observations - rows.observations}
        error = predicted_nll if self.error == "nll" else squared_error
        return {name: self.weights[name] * error(net(inputs), targets[name]) for name, net in self.decoders.items()}
