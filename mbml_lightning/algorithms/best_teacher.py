"""The score of inferring nothing, beside which that of a policy that infers its task is read."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from mbml_lightning.algorithms.bcq import BCQ, load_bcq
from mbml_lightning.arguments import Seed
from mbml_lightning.evaluation.rollouts import collect
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.seeds import EpisodeSeeds
from mbml_lightning.training import sharding
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.types import Policy, TaskBatch


class BestTeacher(Algorithm):
    """One teacher for all tasks: that with the highest mean return on the train tasks; nothing to train.

    A policy that does not beat it may be the right average of the teachers and not have inferred anything.

    Args:
        distribution: Name of the task distribution.
        teachers: Checkpoint of the trained `BCQ`.
        seed: Names the run.

    Attributes:
        returns: Those of every teacher (columns) in one episode of every train task (rows), once it validates.
    """

    learns_from = None
    returns: Float[Tensor, "K K"]

    def __init__(self, distribution: str, teachers: str, seed: Seed = 0) -> None:
        super().__init__(distribution, seed=seed)
        self.save_hyperparameters()
        self.teacher_checkpoint = teachers

    def setup(self, stage: str) -> None:
        """Let every teacher act on every train task, and keep the best; Lightning calls this before it validates."""
        super().setup(stage)
        checkpoint = Checkpoint.read(self.teacher_checkpoint)
        bcq = load_bcq(checkpoint, self.distribution.name).to(self.device)
        self.learned_from("teachers", checkpoint)
        self.num_tasks = bcq.num_tasks
        self.tasks = self.distribution.recorded_tasks(checkpoint.record, "train", self.num_tasks)
        self.returns = self.returns_of(bcq)
        best = int(self.returns.mean(0).argmax())
        sharding.keep_tasks(bcq, range(best, best + 1))
        self.teacher = bcq.policy()

    def returns_of(self, bcq: BCQ) -> Float[Tensor, "K K"]:
        """Return of every teacher (columns) in one episode of every train task (rows)."""
        numbers = range(self.num_tasks)
        seeds = EpisodeSeeds(0, "train", numbers, numbers, self.device, self.tasks)
        (episode,) = collect(TeacherOfTrial(bcq.policy()), self.distribution, seeds, purpose="best teacher ")
        return (episode.transitions.rewards * episode.alive).sum(-1)

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Refuse to train: there is nothing to learn.

        Raises:
            TypeError: Always.
        """
        raise TypeError("BestTeacher has nothing to train: use `mbml validate`")

    def policy(self) -> Policy:
        """The policy that acts on every task as the best teacher does on its own."""
        return SamePolicy(self.teacher)


@dataclass(frozen=True)
class TeacherOfTrial:
    """All members of a stack on all tasks: member b acts in trial b.

    Args:
        stack: The policy of a stack with as many members as trials.
    """

    stack: Policy

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action of a member needs."""
        return self.stack.noise_dim

    def act(
        self, observations: Float[Tensor, "J K S"], z: Float[Tensor, "J K Z"] | None, noise: Float[Tensor, "J K D"]
    ) -> Float[Tensor, "J K A"]:
        """Act in J tasks with K trials each."""
        return self.stack.act(observations.transpose(0, 1), None, noise.transpose(0, 1)).transpose(0, 1)


@dataclass(frozen=True)
class SamePolicy:
    """One member of a stack as the policy of all tasks.

    Args:
        member: The policy of a stack with one member.
    """

    member: Policy

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action of the member needs."""
        return self.member.noise_dim

    def act(
        self, observations: Float[Tensor, "K B S"], z: Float[Tensor, "K B Z"] | None, noise: Float[Tensor, "K B D"]
    ) -> Float[Tensor, "K B A"]:
        """Act in all tasks and simulations as if they were simulations of one task."""
        a = self.member.act(observations.flatten(0, 1).unsqueeze(0), None, noise.flatten(0, 1).unsqueeze(0))
        return a.view(*observations.shape[:2], -1)
