"""The data card: what a store holds, task by task, and what is suspicious about it."""

import logging
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from mbml_lightning import ranks
from mbml_lightning.data.online import episode_returns
from mbml_lightning.envs import TaskDistribution, make_vec_env
from mbml_lightning.files.store import Store

FAR = 50
"""Observations are far from a random rollout's beyond so many times its range."""


@dataclass(frozen=True)
class TaskCard:
    """The part of a data card that tells of one task.

    Args:
        task: The task.
        rewards: The smallest, the mean and the largest reward.
        returns: Returns of the episodes that ended, in their order.
    """

    task: list[Any]
    rewards: tuple[float, float, float]
    returns: list[float]


@dataclass(frozen=True)
class DataCard:
    """A summary of a store: its tasks, and what is suspicious about it.

    Args:
        distribution: Name of the task distribution.
        count: Transitions of each task (N).
        digest: SHA-256 of the store.
        tasks: A card for each task.
        remarks: One line for each thing that is suspicious.
    """

    distribution: str
    count: int
    digest: str
    tasks: list[TaskCard]
    remarks: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Write the card as lines of text, a task a line."""
        lines = [f"{self.distribution}: {len(self.tasks)} tasks of {self.count} transitions, {self.digest[:12]}"]
        for i, task in enumerate(self.tasks):
            low, mean, high = task.rewards
            ended = f"{len(task.returns)} episodes" + (f", return {np.mean(task.returns):.4g}" if task.returns else "")
            lines.append(f"  {i} {str(task.task)[:40]}: reward {mean:.4g} [{low:.4g}, {high:.4g}], {ended}")
        return lines + [f"  {remark}" for remark in self.remarks]


def card(store: Store, distribution: TaskDistribution) -> DataCard:
    """Look through a store."""
    cards = []
    for record in store.tasks:
        rewards = np.asarray(record.fields["rewards"])
        returns = episode_returns(rewards, record.fields["terminations"], record.fields["truncations"])
        low, mean, high = float(rewards.min()), float(rewards.mean()), float(rewards.max())
        cards.append(TaskCard(record.task, (low, mean, high), returns))
    remarks = [*_constant_rewards(cards), *_endless_episodes(cards), *_far_observations(store, distribution)]
    return DataCard(distribution.name, store.meta["count"], store.digest, cards, remarks)


def warn_of(found: DataCard, place: str) -> None:
    """Say what is suspicious about a store, a line each, on rank 0."""
    for remark in found.remarks if ranks.rank() == 0 else ():
        logging.getLogger(__name__).warning("%s: %s", place, remark)


def _constant_rewards(cards: list[TaskCard]) -> list[str]:
    """Name tasks whose rewards are all equal, so that nothing can be learned from them."""
    equal = {i: task.rewards[0] + 0.0 for i, task in enumerate(cards) if task.rewards[0] == task.rewards[2]}
    if not equal:
        return []
    values = sorted(set(equal.values()))[:3]
    return [f"all rewards are equal in tasks {list(equal)} ({', '.join(f'{value:.4g}' for value in values)})"]


def _endless_episodes(cards: list[TaskCard]) -> list[str]:
    """Say if no episode ends in all data, which is how a lost column looks."""
    if any(task.returns for task in cards):
        return []
    return ["no transition is marked as the end of an episode (terminations, truncations)"]


def _far_observations(store: Store, distribution: TaskDistribution) -> list[str]:
    """Name dimensions of the states that lie far outside what a random rollout of the environment gives."""
    low, high = random_range(distribution, np.asarray(store.tasks[0].task).reshape(distribution.task_shape))
    span = np.maximum(high - low, np.median(high - low))
    for record in store.tasks:
        states = record.fields["observations"]
        far: Bool[np.ndarray, " S"] = (states.max(0) > high + FAR * span) | (states.min(0) < low - FAR * span)
        if far.any():
            d = int(far.argmax())
            seen, usual = (states[:, d].min(), states[:, d].max()), (low[d], high[d])
            where = f"in dimension {d} of task {record.task_index}"
            text = f"observations reach from {seen[0]:.4g} to {seen[1]:.4g} {where}"
            return [f"{text}, but from {usual[0]:.4g} to {usual[1]:.4g} under random actions: another scale or order?"]
    return []


def random_range(
    distribution: TaskDistribution, task: np.ndarray
) -> tuple[Float[np.ndarray, " S"], Float[np.ndarray, " S"]]:
    """Act two episodes at random in a task, and return the smallest and the largest observations."""
    env, rng = make_vec_env(distribution.name, task[None].repeat(2, 0)), np.random.default_rng(0)
    seen = [env.reset(seed=0)[0]]
    for _ in range(distribution.horizon):
        seen.append(env.step(rng.uniform(-1, 1, env.action_space.shape))[0])
    env.close()
    states = np.concatenate(seen)
    return states.min(0), states.max(0)
