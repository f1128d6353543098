"""The scores of the package as torchmetrics: updated batch by batch, reset, moved, and shared between ranks.

``compute`` gathers the states of all ranks when torch.distributed runs, as torchmetrics do; pass
``sync_on_compute=False`` where every rank holds everything already. To gather, every rank needs one update at least.
"""

from typing import Any

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from mbml_lightning.evaluation.sensitivity import reward_sensitivity, rewards_followed
from mbml_lightning.results.statistics import counted_return, iqm
from mbml_lightning.types import Gaussian


class CountedReturn(Metric):
    r"""Mean return of the counted episodes of a trial, :math:`\frac{1}{E - u} \sum_{e > u} R_e` (Algorithm 5).

    ``compute`` returns ``mean`` over tasks, trials and counted episodes, ``tasks`` ``(K,)`` with the same mean of every
    task in the order of the updates (of the ranks, then), and ``iqm``, the interquartile mean of ``tasks``.

    Args:
        uncounted: u, first episodes of a trial that are left out.
        kwargs: Those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from mbml_lightning.evaluation.metrics import CountedReturn
        >>> returns = torch.tensor([[[0.0, 4.0, 6.0]], [[0.0, 1.0, 3.0]]], dtype=torch.float64)
        >>> metric = CountedReturn(uncounted=1)
        >>> metric.update(returns)  # 2 tasks, 1 trial, 3 episodes
        >>> {name: value.tolist() for name, value in metric.compute().items()}
        {'mean': 3.5, 'tasks': [5.0, 2.0], 'iqm': 3.5}
    """

    higher_is_better = True
    is_differentiable = False
    full_state_update = False
    returns: list[Tensor]

    def __init__(self, uncounted: int = 0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.uncounted = uncounted
        self.add_state("returns", default=[], dist_reduce_fx="cat")

    def update(self, returns: Float64[Tensor, "K T E"]) -> None:
        """Add the returns of further tasks.

        Args:
            returns: Undiscounted returns of all trials and episodes of some tasks.
        """
        self.returns.append(returns)

    def compute(self) -> dict[str, Tensor]:
        """Average what was added, in double precision.

        Raises:
            ValueError: No episode would count.
        """
        returns = dim_zero_cat(self.returns).cpu().numpy()
        tasks = counted_return(returns, self.uncounted, (-2, -1))
        scores = {"mean": counted_return(returns, self.uncounted, None), "tasks": tasks, "iqm": iqm(tasks[None])}
        return {name: torch.as_tensor(score) for name, score in scores.items()}


class RewardReading(Metric):
    r"""Measures of whether an encoder reads rewards, from contexts with swapped rewards: see `evaluation.sensitivity`.

    ``compute`` returns ``reward_sensitivity``,
    :math:`\sum_{i \ne j} KL(q(c_{j \to i}) \| q(c_j)) / \sum_{i \ne j} KL(q(c_i) \| q(c_j))`, and ``rewards_followed``,
    the share of contexts with :math:`KL(q(c_{j \to i}) \| q(c_i)) < KL(q(c_{j \to i}) \| q(c_j))`.

    Args:
        kwargs: Those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from mbml_lightning.evaluation.metrics import RewardReading
        >>> from mbml_lightning.types import Gaussian
        >>> own = Gaussian(torch.tensor([[[0.0]], [[2.0]]]), torch.ones(2, 1, 1))  # 2 tasks, 1 context, 1 dimension
        >>> swapped = Gaussian(own.mean.unsqueeze(1).expand(2, 2, 1, 1), torch.ones(2, 2, 1, 1))  # only rewards count
        >>> metric = RewardReading()
        >>> metric.update(own, swapped)
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'reward_sensitivity': 1.0, 'rewards_followed': 1.0}
    """

    is_differentiable = False
    full_state_update = False
    own: list[Tensor]
    swapped: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("own", default=[], dist_reduce_fx="cat")  # mean and variance, (N, 2, K, Z)
        self.add_state("swapped", default=[], dist_reduce_fx="cat")  # (N, 2, K, K, Z)

    def update(self, own: Gaussian, swapped: Gaussian) -> None:
        """Add contexts of all K tasks.

        Args:
            own: Posteriors of N contexts of each task, ``(K, N, Z)``.
            swapped: Those with the rewards of task i and the states and actions of task j at ``[i, j]``,
                ``(K, K, N, Z)``.
        """
        self.own.append(torch.stack(own).movedim(2, 0))
        self.swapped.append(torch.stack(swapped).movedim(3, 0))

    def compute(self) -> dict[str, Tensor]:
        """Compare the posteriors of all contexts that were added."""
        posteriors = Gaussian(*_rows_at(2, self.own)), Gaussian(*_rows_at(3, self.swapped))
        measures = {"reward_sensitivity": reward_sensitivity, "rewards_followed": rewards_followed}
        return {name: measure(*posteriors) for name, measure in measures.items()}


class RelabellingErrors(Metric):
    r"""Mean absolute errors :math:`|\hat r_i(s, a) - r_i(s, a)|` of relabelled rewards on other tasks' rows (Figure 7).

    ``compute`` returns ``relabelling_error`` of the ensemble's mean, ``relabelling_error_single`` of its first member
    alone, and, with a threshold and two members or more, ``relabelling_error_kept`` of the rows whose standard
    deviation over members is below it, and their share ``kept_fraction``. The error of the kept rows is NaN if there
    are none.

    Args:
        threshold: Standard deviation of the members below which a row is kept; None keeps all.
        kwargs: Those of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> from mbml_lightning.evaluation.metrics import RelabellingErrors
        >>> predictions = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1).expand(2, 2, 2, 3)  # 2 members, 2 tasks, 3 rows
        >>> metric = RelabellingErrors()
        >>> metric.update(predictions, truth=torch.full((2, 2, 3), 1.5))
        >>> {name: value.item() for name, value in metric.compute().items()}
        {'relabelling_error': 0.5, 'relabelling_error_single': 1.5}
    """

    higher_is_better = False
    is_differentiable = False
    full_state_update = False
    errors: list[Tensor]
    single: list[Tensor]
    kept: list[Tensor]

    def __init__(self, threshold: float | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.threshold = threshold
        for name in ("errors", "single", "kept"):  # (C, pairs of tasks)
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, rewards: Float[Tensor, "E K K C"], truth: Float[Tensor, "K K C"]) -> None:
        """Add rows of all K tasks.

        Args:
            rewards: Predictions of every member for task j's rows under task i at ``[:, i, j]``.
            truth: What they should be.
        """
        pairs = ~torch.eye(len(truth), dtype=torch.bool, device=truth.device)
        self.errors.append((rewards.mean(0) - truth).abs()[pairs].T)
        self.single.append((rewards[0] - truth).abs()[pairs].T)
        if self.threshold is not None and len(rewards) > 1:
            self.kept.append((rewards.std(0)[pairs] < self.threshold).T)

    def compute(self) -> dict[str, Tensor]:
        """Average over the rows that were added."""
        errors, single = _rows_at(1, self.errors), _rows_at(1, self.single)
        found = {"relabelling_error": errors.mean(), "relabelling_error_single": single.mean()}
        if len(self.kept):
            kept: Bool[Tensor, "P C"] = _rows_at(1, self.kept)
            found |= {"relabelling_error_kept": errors[kept].mean(), "kept_fraction": kept.float().mean()}
        return found


def _rows_at(axis: int, state: list[Tensor] | Tensor) -> Tensor:
    """Join the rows of all updates and move them from the first axis, where states have them, to their own.

    After torchmetrics has gathered the ranks' states, they are joined already.
    """
    return dim_zero_cat(state).movedim(0, axis).contiguous()
