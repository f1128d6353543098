"""The score of knowing nothing, beside which every other one is read."""

from torch import Tensor

from mbml_lightning.arguments import Seed
from mbml_lightning.policies.gaussian import UniformPolicy
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.types import TaskBatch


class Random(Algorithm):
    """Uniformly random actions on any task; nothing to train, only to validate.

    Args:
        distribution: Name of the task distribution.
        seed: Names the run; the actions' seed is the evaluation's.
    """

    learns_from = None

    def __init__(self, distribution: str, seed: Seed = 0) -> None:
        super().__init__(distribution, seed=seed)
        self.save_hyperparameters()

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Refuse to train: there is nothing to learn.

        Raises:
            TypeError: Always.
        """
        raise TypeError("Random has nothing to train: use `mbml validate`")

    def policy(self) -> UniformPolicy:
        """The policy that draws actions uniformly from their box."""
        return UniformPolicy(self.distribution.action_dim)
