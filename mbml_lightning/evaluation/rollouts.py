"""Episodes of a policy in many environment copies at once, with random numbers that depend on nobody else."""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mbml_lightning.envs import TaskDistribution, TaskVectorEnv, make_vec_env
from mbml_lightning.envs.cores import cores_for_physics
from mbml_lightning.seeds import EpisodeSeeds
from mbml_lightning.types import Policy, Transitions


class Episode(NamedTuple):
    """One episode of every environment copy.

    Attributes:
        transitions: ``(K, B, T)``; those after the end of an episode are of the next one.
        alive: True for the steps before the episode's end, the last one included.
    """

    transitions: Transitions
    alive: Bool[Tensor, "K B T"]


@cores_for_physics()
@torch.no_grad()
def collect(
    policy: Policy,
    distribution: TaskDistribution,
    seeds: EpisodeSeeds,
    episodes: int = 1,
    z: Float[Tensor, "K B Z"] | None = None,
    purpose: str = "context-",
) -> list[Episode]:
    """Act some episodes with any policy in the tasks and trials of ``seeds``.

    Args:
        policy: How to act.
        distribution: The task distribution.
        seeds: Which tasks and trials, and their random numbers.
        episodes: How many, one after the other.
        z: Task identities for a policy that needs them, the same in all episodes.
        purpose: Sets the random numbers apart from those of episodes that are collected for something else.

    Example:
        >>> from mbml_lightning import envs
        >>> from mbml_lightning.evaluation.rollouts import collect
        >>> from mbml_lightning.policies.gaussian import UniformPolicy
        >>> from mbml_lightning.seeds import EpisodeSeeds
        >>> distribution, seeds = envs.distribution("PointGoal"), EpisodeSeeds(0, "train", range(5), range(3))
        >>> (episode,) = collect(UniformPolicy(distribution.action_dim), distribution, seeds)
        >>> episode.transitions.rewards.shape  # 5 tasks, 3 trials each, 20 steps
        torch.Size([5, 3, 20])
    """
    env = make_copies(distribution, seeds)
    acted = [act_episode(env, policy, z, seeds, episode, purpose) for episode in range(episodes)]
    env.close()
    return acted


def make_copies(distribution: TaskDistribution, seeds: EpisodeSeeds) -> TaskVectorEnv:
    """Make an environment copy for each task and trial, the trials of a task side by side."""
    tasks = seeds.parameters
    if tasks is None:
        tasks = distribution.tasks(seeds.split)[list(seeds.tasks)]
    return make_vec_env(distribution.name, np.repeat(tasks, len(seeds.trials), 0))


def act_episode(
    env: TaskVectorEnv,
    policy: Policy,
    z: Float[Tensor, "K B Z"] | None,
    seeds: EpisodeSeeds,
    episode: int,
    purpose: str = "",
) -> Episode:
    """Act one episode in every environment copy with the random numbers of its ``purpose``."""
    noise = seeds.normal(f"{purpose}action", episode, env.distribution.horizon, policy.noise_dim)
    return run_episode(env, policy, z, noise, seeds.resets(f"{purpose}reset", episode))


def run_episode(
    env: TaskVectorEnv,
    policy: Policy,
    z: Float[Tensor, "K B Z"] | None,
    noise: Float[Tensor, "K B T D"],
    seeds: list[int],
) -> Episode:
    """Step all environment copies together until the last one has ended, at most T times.

    Copies that ended earlier go on (Gymnasium resets them in their next step); ``alive`` leaves those steps out.
    """
    k, b, horizon, _ = noise.shape
    s, _ = env.reset(seed=seeds)  # (K B, S)
    alive = np.ones(k * b, bool)
    steps = []
    for t in range(horizon):
        seen = torch.as_tensor(s, device=noise.device).view(k, b, -1)
        a = policy.act(seen, z, noise[:, :, t]).flatten(0, 1).cpu().numpy()  # (K B, A)
        next_s, r, termination, truncation, _ = env.step(a)
        steps.append((s, a, r, next_s, termination, alive))
        alive = alive & ~(termination | truncation)
        s = next_s
        if not alive.any():
            break
    # each column from T times (K B, ...) to (K, B, T, ...)
    columns = [torch.as_tensor(np.stack(x, 1)).to(noise.device).unflatten(0, (k, b)) for x in zip(*steps, strict=True)]
    return Episode(Transitions(*(x.float() for x in columns[:5])), columns[5])
