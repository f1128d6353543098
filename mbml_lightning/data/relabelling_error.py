"""How far relabelled rewards are from the true ones (Figure 7)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.data.relabelling import OracleRelabeller
from mbml_lightning.data.rows import Rows
from mbml_lightning.ranks import first_ranks, gather
from mbml_lightning.types import Transitions

PROBE = 500
"""Transitions of each task on which they are compared."""


def truly_relabelled(rows: Rows, distribution: str, num_tasks: int) -> tuple[Transitions, Float[Tensor, "K K C"]]:
    """Some transitions of every task, evenly over its batch, and their true rewards under every task.

    Args:
        rows: Transitions of all ``num_tasks`` tasks, or of this rank's.
        distribution: Name of their distribution.
        num_tasks: K.

    Raises:
        RelabellingError: The data do not tell them.
    """
    index = torch.linspace(0, rows.count - 1, min(PROBE, rows.count), device=rows.packed.device).long()
    few = rows.select(index.expand(len(rows.packed), -1))
    few.packed = torch.cat(gather(few.packed.cpu())[: len(first_ranks(num_tasks))]).to(index.device)
    oracle, t = OracleRelabeller(), few.unpack(few.packed)
    oracle.prepare(few, distribution)
    return t, oracle(t, torch.arange(len(index), device=index.device).expand(num_tasks, -1)).rewards


def absolute_errors(
    rewards: Float[Tensor, "E K K C"], truth: Float[Tensor, "K K C"], threshold: float | None
) -> dict[str, float]:
    """Mean absolute errors on other tasks' transitions: of the ensemble, where it is trusted, and of one network.

    Args:
        rewards: Predictions of every member for task j's transitions under task i at ``[:, i, j]``.
        truth: What they should be.
        threshold: Standard deviation of the members below which the ensemble is trusted; None trusts all.
    """
    pairs = ~torch.eye(len(truth), dtype=torch.bool, device=truth.device)
    error, single = ((x - truth).abs()[pairs] for x in (rewards.mean(0), rewards[0]))
    found = {"relabelling_error": error.mean(), "relabelling_error_single": single.mean()}
    if threshold is not None and len(rewards) > 1:
        kept = rewards.std(0)[pairs] < threshold
        found |= {"relabelling_error_kept": error[kept].mean(), "kept_fraction": kept.float().mean()}
    return {name: float(x) for name, x in found.items() if x.isfinite()}
