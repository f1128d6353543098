"""The same updates written plainly: one `nn.Sequential` a network, one Adam an optimiser of the papers, Python loops.

Nothing here is of the package but the types. Each reference takes its weights from the method that it is compared with
and draws its random numbers in the same order, so that under one seed both make the same update.
"""

from typing import Protocol

from benchmarks.references.bcq import BCQReference
from benchmarks.references.ensemble import EnsembleReference
from benchmarks.references.mbml import MBMLReference
from benchmarks.references.networks import Losses, Stacks
from benchmarks.references.sac import SACReference
from mbml_lightning.types import TaskBatch

REFERENCES = {"sac": SACReference, "bcq": BCQReference, "ensemble": EnsembleReference, "mbml": MBMLReference}


class Reference(Protocol):
    """What a comparison asks of a reference."""

    stacks: Stacks

    def update(self, batch: TaskBatch) -> Losses:
        """One update of all tasks."""
        ...
