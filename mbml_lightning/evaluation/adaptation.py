"""Acting on tasks whose identity is not known: adaptation by posterior sampling (Algorithm 5)."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from mbml_lightning.envs import TaskDistribution, TaskVectorEnv, make_vec_env
from mbml_lightning.envs.cores import cores_for_physics
from mbml_lightning.nets.task_encoder import TaskEncoder, product
from mbml_lightning.types import Gaussian, Policy, Transitions


@dataclass(frozen=True)
class AdaptationProtocol:
    """How tasks are evaluated.

    Args:
        episodes: Episodes of a trial.
        trials: Independent trials on every task.
        seed: Seed of resets, actions and task identities.
        max_context: Latest transitions that the posterior is inferred from, None for all of them.
        context_episodes: Episodes that are collected before a trial, under the protocols that begin so.
    """

    episodes: int = 5
    trials: int = 8
    seed: int = 0
    max_context: int | None = None
    context_episodes: int = 1


class Chunk(NamedTuple):
    """Tasks and trials that are stepped side by side, the unit of work of a rank."""

    split: str
    tasks: range
    trials: range


class Adaptation(NamedTuple):
    """What happened on a chunk.

    Attributes:
        returns: Undiscounted, ``(tasks, trials, episodes)``.
        observations: The first trial's, ``(tasks, episodes, horizon + 1, S)``; after an early end the last one stays.
    """

    returns: Float64[np.ndarray, "K T E"]
    observations: Float[np.ndarray, "K E T1 S"]


class Episode(NamedTuple):
    """One episode of every copy; ``alive`` tells the steps before its end, all ``(K, B, T)``."""

    transitions: Transitions
    alive: Bool[Tensor, "K B T"]


class Start(NamedTuple):
    """What a trial begins with; by default only the prior.

    Attributes:
        context: Episodes collected in the task before the trial: the posterior is theirs and does not grow.
        first: Acts the first episode in place of the policy.
    """

    context: Sequence[Episode] = ()
    first: Policy | None = None


PRIOR = Start()
"""Nothing is known of the task."""


def seeds(protocol: AdaptationProtocol, chunk: Chunk, episode: int, purpose: str) -> list[list[int]]:
    """A seed for each task and trial, which depends on (seed, split, task, trial, episode), not on who else acts."""

    def one(task: int, trial: int) -> int:
        key = f"{protocol.seed}/{chunk.split}/{task}/{trial}/{episode}/{purpose}".encode()
        return int.from_bytes(hashlib.blake2s(key, digest_size=4).digest(), "big")

    return [[one(task, trial) for trial in chunk.trials] for task in chunk.tasks]


def draw(
    protocol: AdaptationProtocol, chunk: Chunk, episode: int, purpose: str, *shape: int
) -> Float[Tensor, "K B *shape"]:
    """Standard normal numbers from the `seeds`."""

    def one(seed: int) -> Tensor:
        return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))

    return torch.stack([torch.stack([one(seed) for seed in row]) for row in seeds(protocol, chunk, episode, purpose)])


@cores_for_physics()
@torch.no_grad()
def adapt(
    policy: Policy,
    encoder: TaskEncoder | None,
    family: TaskDistribution,
    protocol: AdaptationProtocol,
    chunk: Chunk,
    device: torch.device | None = None,
    start: Start = PRIOR,
) -> Adaptation:
    """Algorithm 5 on the tasks of ``chunk``: z from the prior first, then from all transitions so far.

    Args:
        policy: How to act.
        encoder: Infers the task; None for a policy that needs no z.
        family: The task distribution.
        protocol: How often and with which seed.
        chunk: Which tasks and trials.
        device: Where the networks are, the CPU if None.
        start: What the trials begin with.
    """
    env, episodes, z = make_copies(family, chunk), [], None
    factors = [] if encoder is None else [encoder(x.transitions) for x in start.context]
    alive = [x.alive for x in start.context]
    for e in range(protocol.episodes):
        if encoder is not None:
            noise = draw(protocol, chunk, e, "z", encoder.z_dim).to(device)
            z = identity(noise, factors, alive, protocol.max_context)
        actor = policy if e or start.first is None else start.first
        episodes.append(act_episode(env, actor, z, protocol, chunk, e, device))
        if encoder is not None and not start.context:
            factors.append(encoder(episodes[-1].transitions))
            alive.append(episodes[-1].alive)
    env.close()
    returns = torch.stack([(x.transitions.rewards * x.alive).sum(-1) for x in episodes], -1)
    paths = [first_trial(episode, family.horizon) for episode in episodes]
    return Adaptation(returns.double().cpu().numpy(), np.stack(paths, 1))


def make_copies(family: TaskDistribution, chunk: Chunk) -> TaskVectorEnv:
    """An environment for each task and trial, trials of one task side by side."""
    tasks = family.tasks(chunk.split)[chunk.tasks.start : chunk.tasks.stop]
    return make_vec_env(family.name, np.repeat(tasks, len(chunk.trials), 0))


def identity(
    noise: Float[Tensor, "K B Z"], factors: list[Gaussian], alive: list[Tensor], max_context: int | None
) -> Float[Tensor, "K B Z"]:
    """z from the posterior, and from the prior where nothing was seen yet."""
    if not factors:
        return noise
    posterior = infer(factors, alive, max_context)
    return posterior.mean + posterior.variance.sqrt() * noise


def infer(factors: list[Gaussian], alive: list[Tensor], max_context: int | None) -> Gaussian:
    """Posterior from all transitions so far, or from the latest ``max_context`` of them, ``(K, B, Z)``."""
    rows = Gaussian(*(torch.cat(x, -2) for x in zip(*factors, strict=True)))
    mask = torch.cat(alive, -1)
    if max_context is not None:
        newer = mask.flip(-1).cumsum(-1).flip(-1)
        mask = mask & (newer <= max_context)
    return product(rows, mask)


def act_episode(
    env: TaskVectorEnv,
    policy: Policy,
    z: Float[Tensor, "K B Z"] | None,
    protocol: AdaptationProtocol,
    chunk: Chunk,
    episode: int,
    device: torch.device | None,
    purpose: str = "",
) -> Episode:
    """One episode of every copy with the random numbers of its ``purpose``."""
    horizon = env.distribution.horizon
    noise = draw(protocol, chunk, episode, f"{purpose}action", horizon, policy.noise_dim).to(device)
    resets = [seed for row in seeds(protocol, chunk, episode, f"{purpose}reset") for seed in row]
    return run_episode(env, policy, z, noise, resets)


def run_episode(
    env: TaskVectorEnv,
    policy: Policy,
    z: Float[Tensor, "K B Z"] | None,
    noise: Float[Tensor, "K B T D"],
    seeds: list[int],
) -> Episode:
    """One episode of every copy, all stepped together until the last one has ended.

    Copies that ended earlier go on (Gymnasium resets them in their next step); ``alive`` leaves those steps out.
    """
    k, b, horizon, _ = noise.shape
    s, _ = env.reset(seed=seeds)
    alive = np.ones(k * b, bool)
    steps = []
    for t in range(horizon):
        seen = torch.as_tensor(s, device=noise.device).view(k, b, -1)
        a = policy.act(seen, z, noise[:, :, t])
        next_s, r, termination, truncation, _ = env.step(a.flatten(0, 1).cpu().numpy())
        steps.append((s, a.flatten(0, 1).cpu().numpy(), r, next_s, termination, alive))
        alive = alive & ~(termination | truncation)
        s = next_s
        if not alive.any():
            break
    columns = [torch.as_tensor(np.stack(x, 1)).to(noise.device).unflatten(0, (k, b)) for x in zip(*steps, strict=True)]
    return Episode(Transitions(*(x.float() for x in columns[:5])), columns[5])


def first_trial(episode: Episode, horizon: int) -> Float[np.ndarray, "K T1 S"]:
    """Observations of the first trial, the last one repeated after an early end."""
    t = episode.transitions
    s = torch.cat([t.observations[:, 0], t.next_observations[:, 0, -1:]], 1).cpu().numpy()
    lengths = episode.alive[:, 0].sum(-1, keepdim=True).cpu().numpy()
    path: Float[np.ndarray, "K T1 S"] = np.take_along_axis(s, np.minimum(np.arange(horizon + 1), lengths)[..., None], 1)
    return path
