"""The base of methods that learn every task on its own, as one stack of networks."""

from jaxtyping import Float
from torch import Tensor

from mbml_lightning import ranks
from mbml_lightning.training import sharding
from mbml_lightning.training.algorithm import Algorithm


class PerTask(Algorithm):
    """A method with networks of its own for each of K tasks, which therefore acts on these tasks only.

    The networks are one stack with an axis of tasks. Tasks have nothing in common, so on several ranks each one learns
    some of the tasks, and no gradients travel.
    """

    def take_share(self) -> None:
        """Share the tasks out over ranks, and drop the networks of other ranks' tasks."""
        self.share = ranks.Share(self.num_tasks, ranks.own_tasks(self.num_tasks))
        if not self.share.is_whole:
            sharding.keep_tasks(self, self.share.tasks)

    def on_fit_start(self) -> None:
        """Look at the states, and keep the weights as they are: other ranks have those of other tasks."""
        self.follow_states()

    def over_ranks(self, means: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
        """Average over all tasks what was averaged over this rank's."""
        repeats = ranks.rank() >= self.num_tasks  # of more ranks than tasks, the last repeat
        return ranks.total(means * (0 if repeats else len(self.share.tasks) / self.num_tasks))
