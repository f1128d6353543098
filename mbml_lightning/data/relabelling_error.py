"""True rewards of some transitions under every task, with which relabelled ones are compared (Figure 7)."""

import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.data.relabelling import OracleRelabeller
from mbml_lightning.data.rows import Rows
from mbml_lightning.ranks import gather
from mbml_lightning.types import Transitions

PROBE = 500
"""Transitions of each task, at most."""


def truly_relabelled(rows: Rows, distribution: str, num_tasks: int) -> tuple[Transitions, Float[Tensor, "K K C"]]:
    """Choose some transitions of every task, evenly over its batch, and compute their true rewards under every task.

    Args:
        rows: Transitions of all ``num_tasks`` tasks, or of this rank's.
        distribution: Name of their distribution.
        num_tasks: K.

    Raises:
        RelabellingError: The data do not tell true rewards.
    """
    index = torch.linspace(0, rows.count - 1, min(PROBE, rows.count), device=rows.packed.device).long()
    few = rows.select(index.expand(len(rows.packed), -1))
    few.packed = torch.cat(gather(few.packed.cpu(), num_tasks)).to(index.device)
    oracle, t = OracleRelabeller(), few.unpack(few.packed)
    oracle.prepare(few, distribution)
    return t, oracle(t, torch.arange(len(index), device=index.device).expand(num_tasks, -1)).rewards
