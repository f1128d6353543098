"""What a trial knows before its first episode: the context protocols of the field."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor

from mbml_lightning.envs import TaskDistribution
from mbml_lightning.envs.cores import cores_for_physics
from mbml_lightning.errors import CheckpointError
from mbml_lightning.evaluation.adaptation import (
    PRIOR,
    AdaptationProtocol,
    Chunk,
    Episode,
    Start,
    act_episode,
    make_copies,
)
from mbml_lightning.files.checkpoints import CHECKPOINT_KEY, check_made_by, read_checkpoint
from mbml_lightning.nets.gaussian_actor import GaussianActor
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.policies.gaussian import GaussianPolicy, UniformPolicy
from mbml_lightning.types import Policy


@dataclass(frozen=True)
class MemberPolicy:
    """Every copy acts with a member of its own.

    Args:
        members: The policy of a stack with one member a copy, ``K * B`` of them.
    """

    members: Policy

    @property
    def noise_dim(self) -> int:
        """That of a member."""
        return self.members.noise_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Each member's action in its copy."""
        a = self.members.act(observations.flatten(0, 1).unsqueeze(1), None, noise.flatten(0, 1).unsqueeze(1))
        return a.view(*observations.shape[:2], -1)


def needed_actors(protocols: Sequence[str], tasks: Mapping[str, int]) -> dict[str, int]:
    """Of how many tasks of which splits SAC's actors are asked for, where so many ``tasks`` are evaluated."""
    needed = dict(tasks) if "offline-own" in protocols else {}
    if "offline-other" in protocols and tasks:
        needed["train"] = max(2, tasks.get("train", 0))
    return needed


def read_collectors(path: str | None, split: str, distribution: str, tasks: int) -> tuple[MLP, str]:
    """The actors of the SAC that was trained on the tasks of ``split``, one network a task, and their SHA-256.

    Raises:
        CheckpointError: If there are none, or they are of another method, distribution or split, or of fewer tasks.
    """
    overlay = "" if split == "train" else f" -c conf/split/{split}.yaml"
    remedy = f"run `mbml fit -c conf/sac.yaml{overlay}` first, or set evaluation.collectors.{split}"
    if path is None or not Path(path).is_file():
        raise CheckpointError(f"{path}: no checkpoint of SAC on the {split} tasks, which collects contexts: {remedy}")
    checkpoint = read_checkpoint(path)
    check_made_by(checkpoint, method="SAC", distribution=distribution)
    trained_on = checkpoint[CHECKPOINT_KEY]["split"]
    stack = MLP.from_state_dict(checkpoint["state_dict"], "actor.mlp.")
    if trained_on != split or stack.members[0] < tasks:
        found = f"{stack.members[0]} {trained_on} tasks"
        raise CheckpointError(f"{path}: SAC's actors of {found}, {tasks} {split} tasks are needed: {remedy}")
    return stack, checkpoint[CHECKPOINT_KEY]["weights"]


def collector(stack: MLP, members: Int[Tensor, "K B"], device: torch.device | None = None) -> MemberPolicy:
    """Acts in every copy with samples of the actor of that index, whose weights are gathered once."""
    s, *hidden, two_a = stack.sizes
    actor = GaussianActor(s, two_a // 2, hidden, members=[members.numel()])
    actor.mlp.load_state_dict({name: x[members.flatten()] for name, x in stack.state_dict().items()})
    return MemberPolicy(GaussianPolicy(actor.to(device), two_a // 2))


def own_members(chunk: Chunk) -> Int[Tensor, "K B"]:
    """Task i's actor in all trials of task i."""
    return torch.tensor(chunk.tasks).unsqueeze(1).expand(-1, len(chunk.trials))


def other_members(chunk: Chunk, actors: int) -> Int[Tensor, "K B"]:
    """The other training tasks' actors in turn, one a trial; none of the training tasks is an unseen task's own."""
    tasks, trials = torch.tensor(chunk.tasks).unsqueeze(1), torch.tensor(chunk.trials)
    if chunk.split != "train":
        return (tasks + trials) % actors
    return (tasks + 1 + trials % (actors - 1)) % actors


@cores_for_physics()
@torch.no_grad()
def collect(
    policy: Policy,
    family: TaskDistribution,
    protocol: AdaptationProtocol,
    chunk: Chunk,
    device: torch.device | None = None,
) -> list[Episode]:
    """Episodes of every copy before its trial."""
    env = make_copies(family, chunk)
    episodes = [
        act_episode(env, policy, None, protocol, chunk, e, device, purpose="context-")
        for e in range(protocol.context_episodes)
    ]
    env.close()
    return episodes


def begin(
    name: str,
    family: TaskDistribution,
    protocol: AdaptationProtocol,
    chunk: Chunk,
    collectors: Mapping[str, MLP],
    device: torch.device | None = None,
) -> Start:
    """What the trials of ``chunk`` begin with under the protocol ``name``.

    Args:
        name: One of `PROTOCOLS` in `results`.
        family: The task distribution.
        protocol: How often and with which seed.
        chunk: Which tasks and trials.
        collectors: The networks of SAC's actors, by split.
        device: Where the networks are, the CPU if None.
    """
    if name == "prior-online":
        return PRIOR
    if name == "random-first":
        return Start(first=UniformPolicy(family.action_dim))
    own = name == "offline-own"
    stack = collectors[chunk.split if own else "train"]
    members = own_members(chunk) if own else other_members(chunk, stack.members[0])
    return Start(context=collect(collector(stack, members, device), family, protocol, chunk, device))
