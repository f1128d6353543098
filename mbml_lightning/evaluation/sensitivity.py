"""Two measures of the paper's claim that the encoder reads rewards, on contexts whose rewards were swapped.

A context c_j keeps its states and actions and gets the true rewards of task i: c_{j->i}. Both measures take posteriors
of N contexts of each task, ``own`` ``(K, N, Z)``, and of those with swapped rewards, ``swapped`` ``(K, K, N, Z)``, with
rewards of task i and states and actions of task j at ``[i, j]``.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mbml_lightning.objectives.divergence import kl
from mbml_lightning.types import Gaussian


def reward_sensitivity(own: Gaussian, swapped: Gaussian) -> Float[Tensor, ""]:
    """Measure how far swapping rewards alone moves the posterior, relative to the distance of two tasks' posteriors.

    The mean over pairs i != j of KL(q(c_{j->i}) || q(c_j)), divided by that of KL(q(c_i) || q(c_j)). It is 0 for an
    encoder that ignores rewards, and 1 for one that reads nothing else and takes c_{j->i} for a context of task i.
    """
    of_states, of_rewards, pairs = _tasks(own)
    return kl(swapped, of_states)[pairs].mean() / kl(of_rewards, of_states)[pairs].mean()


def rewards_followed(own: Gaussian, swapped: Gaussian) -> Float[Tensor, ""]:
    """Compute the share of contexts c_{j->i} whose posterior is nearer to that of task i than to that of task j.

    It tells whether the posterior moves to the right place: 0 if states and actions decide, 1 if rewards do.
    """
    of_states, of_rewards, pairs = _tasks(own)
    return (kl(swapped, of_rewards) < kl(swapped, of_states))[pairs].float().mean()


def _tasks(own: Gaussian) -> tuple[Gaussian, Gaussian, Bool[Tensor, "K K"]]:
    """Lay out the posteriors of task j and of task i at ``[i, j]``, and mark the pairs of two different tasks."""
    of_states, of_rewards = own.map(lambda x: x.unsqueeze(0)), own.map(lambda x: x.unsqueeze(1))
    return of_states, of_rewards, ~torch.eye(len(own.mean), dtype=torch.bool, device=own.mean.device)
