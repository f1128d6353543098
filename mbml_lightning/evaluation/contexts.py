"""The context protocols of the field: what a trial knows before its first episode.

To add a protocol, write a subclass of `ContextProtocol` and add it to `PROTOCOLS`; one in a module of your own needs
no more than its class path in the configuration, ``evaluation.protocols=[my_module.MyProtocol]``.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mbml_lightning.envs import TaskDistribution
from mbml_lightning.errors import CheckpointError, ConfigurationError
from mbml_lightning.evaluation.adaptation import PRIOR, Start
from mbml_lightning.evaluation.rollouts import collect
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import PAPER_PROTOCOL
from mbml_lightning.nets.gaussian_actor import GaussianActor
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.nets.standardiser import fold
from mbml_lightning.policies.gaussian import GaussianPolicy, UniformPolicy
from mbml_lightning.seeds import EpisodeSeeds
from mbml_lightning.types import Policy

Actors = Mapping[str, MLP]
"""By split the SAC actors that collect contexts, one network with a member for each task."""


@dataclass(frozen=True)
class ContextProtocol(ABC):
    """A way in which a method comes to know the task; protocols of one class are equal."""

    name: ClassVar[str]
    """Part of its files' and scores' names: letters, digits and hyphens."""
    sentence: ClassVar[str]
    """Explains it to a reader of the report."""

    def actors(self, tasks: Mapping[str, int]) -> dict[str, int]:
        """Count the SAC actors that it needs of each split, where so many ``tasks`` of each split are evaluated."""
        return {}

    @abstractmethod
    def begin(self, distribution: TaskDistribution, seeds: EpisodeSeeds, collectors: Actors, episodes: int) -> Start:
        """Prepare what the trials of ``seeds`` begin with.

        Args:
            distribution: The task distribution.
            seeds: Which tasks and trials, their random numbers, and the device of the networks.
            collectors: Those that `actors` asks for.
            episodes: How many episodes to collect before a trial, if any.
        """


class PriorOnline(ContextProtocol):
    """The protocol of the paper: every episode but the first, which is the prior's, is acted from those before it."""

    name = PAPER_PROTOCOL
    sentence = "only its own episodes, the first one acted from the prior; the paper's protocol."

    def begin(self, distribution: TaskDistribution, seeds: EpisodeSeeds, collectors: Actors, episodes: int) -> Start:
        """Begin with the prior, and no context."""
        return PRIOR


class OfflineOwn(ContextProtocol):
    """Contexts from the actor that was trained on the very task."""

    name = "offline-own"
    sentence = (
        "context collected before the trial by a policy that was trained on this very task; whoever chose that policy "
        "knew the task."
    )

    def actors(self, tasks: Mapping[str, int]) -> dict[str, int]:
        """Count one for every evaluated task."""
        return dict(tasks)

    def begin(self, distribution: TaskDistribution, seeds: EpisodeSeeds, collectors: Actors, episodes: int) -> Start:
        """Let task i's actor collect in all trials of task i."""
        members = torch.tensor(seeds.tasks).unsqueeze(1).expand(-1, len(seeds.trials))
        policy = collector(collectors[seeds.split], members, seeds.device)
        return Start(context=collect(policy, distribution, seeds, episodes))


class OfflineOther(ContextProtocol):
    """Contexts from the actors of other tasks: rewards are of one task, states and actions suggest another."""

    name = "offline-other"
    sentence = (
        "context collected in this task by another task's policy; states suggest one task and rewards say another, the "
        "trap for an encoder that ignores rewards."
    )

    def actors(self, tasks: Mapping[str, int]) -> dict[str, int]:
        """Count one for every training task, two at least so that each task has another one."""
        return {"train": max(2, tasks.get("train", 0))} if tasks else {}

    def begin(self, distribution: TaskDistribution, seeds: EpisodeSeeds, collectors: Actors, episodes: int) -> Start:
        """Let another task's actor collect in each trial."""
        stack = collectors["train"]
        policy = collector(stack, other_members(seeds, stack.members[0]), seeds.device)
        return Start(context=collect(policy, distribution, seeds, episodes))


class RandomFirst(ContextProtocol):
    """As in the paper, but the first episode is acted at random."""

    name = "random-first"
    sentence = "only its own episodes, the first one acted uniformly at random."

    def begin(self, distribution: TaskDistribution, seeds: EpisodeSeeds, collectors: Actors, episodes: int) -> Start:
        """Begin with a first episode of uniformly random actions."""
        return Start(first=UniformPolicy(distribution.action_dim))


PAPER = PriorOnline()
PROTOCOLS: tuple[ContextProtocol, ...] = (PAPER, OfflineOwn(), OfflineOther(), RandomFirst())
"""In the order in which a report shows them."""


def find_protocol(choice: str | ContextProtocol) -> ContextProtocol:
    """Look a protocol up by its name, or make one from the path of its class.

    Raises:
        ConfigurationError: There is none of that name and no such class, or its own name cannot be used.

    Example:
        >>> from mbml_lightning.evaluation.contexts import find_protocol
        >>> find_protocol("offline-own").actors({"test": 4})
        {'test': 4}
    """
    known = {protocol.name: protocol for protocol in PROTOCOLS}
    made = known.get(choice) if isinstance(choice, str) else choice
    if made is None:
        module, _, name = str(choice).rpartition(".")
        try:
            kind = getattr(import_module(module), name)
        except (ImportError, AttributeError, ValueError):
            kind = None
        made = kind() if isinstance(kind, type) and issubclass(kind, ContextProtocol) else None
    if made is None:
        names = ", ".join(known)
        raise ConfigurationError(
            f"evaluation.protocols: {choice!r} is none of {names}, and no path of a protocol's class"
        )
    if not re.fullmatch("[A-Za-z0-9-]+", made.name) or known.get(made.name, made) != made:
        raise ConfigurationError(f"evaluation.protocols: {made.name!r} is taken, or not of letters, digits and hyphens")
    return made


def needed_actors(protocols: Sequence[ContextProtocol], tasks: Mapping[str, int]) -> dict[str, int]:
    """Count the SAC actors that protocols need of each split, where so many ``tasks`` of each split are evaluated."""
    needed: dict[str, int] = {}
    for protocol in protocols:
        for split, count in protocol.actors(tasks).items():
            needed[split] = max(count, needed.get(split, 0))
    return needed


@dataclass(frozen=True)
class MemberPolicy:
    """A policy with a member of its own for every environment copy.

    Args:
        members: The policy of a stack with one member a copy, ``K * B`` of them.
    """

    members: Policy

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action of a member needs."""
        return self.members.noise_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Act with each member in its copy."""
        a = self.members.act(observations.flatten(0, 1).unsqueeze(1), None, noise.flatten(0, 1).unsqueeze(1))
        return a.view(*observations.shape[:2], -1)


def read_collectors(
    path: str | None, split: str, distribution: TaskDistribution, tasks: np.ndarray, count: int
) -> Checkpoint:
    """Read the checkpoint of the SAC that was trained on ``count`` tasks of ``split``, these first.

    Raises:
        CheckpointError: If there are none, or they are of another method, distribution or split, or of other tasks.
    """
    overlay = "" if split == "train" else f" -c conf/split/{split}.yaml"
    remedy = f"run `mbml fit -c conf/sac.yaml{overlay}` first, or set evaluation.collectors.{split}"
    if path is None or not Path(path).is_file():
        raise CheckpointError(f"{path}: no checkpoint of SAC on the {split} tasks, which collects contexts: {remedy}")
    checkpoint = Checkpoint.read(path)
    checkpoint.check(method="SAC", distribution=distribution.name)
    trained_on, stack = checkpoint.record["split"], actors(checkpoint)
    if trained_on != split or stack.members[0] < count:
        found = f"{stack.members[0]} {trained_on} tasks"
        raise CheckpointError(f"{path}: SAC's actors of {found}, {count} {split} tasks are needed: {remedy}")
    if not np.array_equal(distribution.recorded_tasks(checkpoint.record, split, count)[: len(tasks)], tasks):
        raise CheckpointError(f"{path}: SAC's actors are not of the {split} tasks that are evaluated: {remedy}")
    return checkpoint


def actors(sac: Checkpoint) -> MLP:
    """Take the actors out of a checkpoint of SAC, one network a task that reads states as they are."""
    stack, state = MLP.from_state_dict(sac.state_dict, "actor.mlp."), sac.state_dict
    if "inputs.mean" in state:
        fold(state["inputs.mean"], state["inputs.std"], stack)
    return stack


def collector(stack: MLP, members: Int[Tensor, "K B"], device: torch.device | None = None) -> MemberPolicy:
    """Make the policy that samples, in every environment copy, from the actor of that index in the stack."""
    s, *hidden, two_a = stack.sizes
    actor = GaussianActor(s, two_a // 2, hidden, members=[members.numel()])
    actor.mlp.load_state_dict({name: x[members.flatten()] for name, x in stack.state_dict().items()})
    return MemberPolicy(GaussianPolicy(actor.to(device), two_a // 2))


def other_members(seeds: EpisodeSeeds, actors: int) -> Int[Tensor, "K B"]:
    """Choose the other training tasks' actors in turn, one a trial; an unseen task's own is none of them."""
    tasks, trials = torch.tensor(seeds.tasks).unsqueeze(1), torch.tensor(seeds.trials)
    if seeds.split != "train":
        return (tasks + trials) % actors
    return (tasks + 1 + trials % (actors - 1)) % actors
