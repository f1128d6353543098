"""Adaptation to a task that is not known, by posterior sampling (Algorithm 5)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from mbml_lightning.envs import TaskDistribution
from mbml_lightning.envs.cores import cores_for_physics
from mbml_lightning.evaluation.rollouts import Episode, act_episode, make_copies
from mbml_lightning.nets.task_encoder import TaskEncoder, product
from mbml_lightning.seeds import EpisodeSeeds
from mbml_lightning.types import Gaussian, Policy


class Adaptation(NamedTuple):
    """The result of adapting to K tasks in some trials each.

    Attributes:
        returns: Undiscounted sums of rewards, ``(tasks, trials, episodes)``.
        observations: Those of the first trial, ``(tasks, episodes, horizon + 1, S)``; after an early end the last one
            is repeated.
    """

    returns: Float64[np.ndarray, "K T E"]
    observations: Float[np.ndarray, "K E T1 S"]


class Start(NamedTuple):
    """Knowledge that a trial begins with; by default only the prior.

    Attributes:
        context: Episodes collected in the task before the trial: the posterior is theirs and does not grow.
        first: Policy that acts the first episode in place of the evaluated one.
    """

    context: Sequence[Episode] = ()
    first: Policy | None = None


PRIOR = Start()
"""Nothing is known of the task."""


class Belief:
    """The posterior q(z | c) over each trial's task, given all transitions c that were observed so far.

    Args:
        encoder: Gives a Gaussian factor for each transition.
        max_context: Number of latest transitions that the posterior is inferred from, None for all.
        context: Episodes that were observed before.
    """

    def __init__(self, encoder: TaskEncoder, max_context: int | None = None, context: Sequence[Episode] = ()) -> None:
        self.encoder, self.max_context = encoder, max_context
        self.observed: list[tuple[Gaussian, Tensor]] = []  # by episode: factors (K, B, T, Z), alive (K, B, T)
        for episode in context:
            self.observe(episode)

    def observe(self, episode: Episode) -> None:
        """Add the transitions of an episode to c."""
        self.observed.append((self.encoder(episode.transitions), episode.alive))

    def sample(self, noise: Float[Tensor, "K B Z"]) -> Float[Tensor, "K B Z"]:
        """Make a sample of the posterior from standard normal numbers."""
        mean, variance = self.posterior()
        return mean + variance.sqrt() * noise

    def posterior(self) -> Gaussian:
        """Multiply the factors of the observed transitions, ``(K, B, Z)``; without any the prior N(0, I), ``(Z,)``."""
        if not self.observed:
            zeros = self.encoder.shift.new_zeros(self.encoder.z_dim)
            return Gaussian(zeros, torch.ones_like(zeros))
        factors, alive = zip(*self.observed, strict=True)
        rows = Gaussian(*(torch.cat(x, -2) for x in zip(*factors, strict=True)))  # (K, B, T of all episodes, Z)
        mask = torch.cat(alive, -1)
        if self.max_context is not None:
            newer = mask.flip(-1).cumsum(-1).flip(-1)  # how many alive transitions follow, this one included
            mask = mask & (newer <= self.max_context)
        return product(rows, mask)


@cores_for_physics()
@torch.no_grad()
def adapt(
    policy: Policy,
    encoder: TaskEncoder | None,
    distribution: TaskDistribution,
    seeds: EpisodeSeeds,
    episodes: int = 5,
    max_context: int | None = None,
    start: Start = PRIOR,
) -> Adaptation:
    """Act some episodes, each with a sample z of the posterior given the transitions before it (Algorithm 5).

    Args:
        policy: How to act.
        encoder: Infers the task; None for a policy that needs no z.
        distribution: The task distribution.
        seeds: Which tasks and trials, their random numbers, and the device of the networks.
        episodes: Episodes of a trial.
        max_context: Number of latest transitions that the posterior is inferred from, None for all.
        start: What the trials begin with.

    Example:
        >>> from mbml_lightning import envs
        >>> from mbml_lightning.evaluation.adaptation import adapt
        >>> from mbml_lightning.policies.gaussian import UniformPolicy
        >>> from mbml_lightning.seeds import EpisodeSeeds
        >>> distribution, seeds = envs.distribution("PointGoal"), EpisodeSeeds(0, "test", range(4), range(2))
        >>> adapt(UniformPolicy(distribution.action_dim), None, distribution, seeds, episodes=3).returns.shape
        (4, 2, 3)
    """
    env, acted = make_copies(distribution, seeds), []
    belief = None if encoder is None else Belief(encoder, max_context, start.context)
    for e in range(episodes):
        z = belief.sample(seeds.normal("z", e, belief.encoder.z_dim)) if belief else None
        actor = start.first if start.first and e == 0 else policy
        acted.append(act_episode(env, actor, z, seeds, e))
        if belief and not start.context:
            belief.observe(acted[-1])
    env.close()
    returns = torch.stack([(x.transitions.rewards * x.alive).sum(-1) for x in acted], -1)  # (K, B, E)
    paths = [first_trial(episode, distribution.horizon) for episode in acted]
    return Adaptation(returns.double().cpu().numpy(), np.stack(paths, 1))


def first_trial(episode: Episode, horizon: int) -> Float[np.ndarray, "K T1 S"]:
    """Cut out the observations of the first trial; after an early end the last one is repeated."""
    t = episode.transitions
    s = torch.cat([t.observations[:, 0], t.next_observations[:, 0, -1:]], 1).cpu().numpy()  # (K, T + 1, S)
    lengths = episode.alive[:, 0].sum(-1, keepdim=True).cpu().numpy()
    return np.take_along_axis(s, np.minimum(np.arange(horizon + 1), lengths)[..., None], 1)
