"""Several processes (ranks) at one run: what each of them does, and what they tell each other.

A run on any number of ranks is the run of one process, shared out. Every rank draws the random numbers of the whole
batch and uses those of its own tasks or rows, so that the number of ranks changes how long a run takes, not what it
gives. Without a process group there is one rank, 0 of 1.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.errors import ConfigurationError

T = TypeVar("T")

_patient: dist.ProcessGroup | None = None


def rank() -> int:
    """Number of this process among the ranks, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def world_size() -> int:
    """Number of processes that share the run."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def wait_patiently() -> None:
    """Make `gather` and `collect` wait as long as it takes; evaluations outlast the timeout of training."""
    global _patient  # of gloo on every kind of device, which notices at once when another rank has ended
    _patient = dist.new_group(backend="gloo", timeout=timedelta(days=7)) if world_size() > 1 else None


def gather(mine: T, tasks: int | None = None) -> list[T]:
    """Give every rank the values of all ranks in their order, or of those among which ``tasks`` are shared."""
    parts: list[Any] = [mine] * world_size()
    if world_size() > 1:
        dist.all_gather_object(parts, mine, group=_patient)
    return parts[:tasks]


def collect(mine: T, tasks: int) -> list[T]:
    """Give rank 0 the values of all ranks among which ``tasks`` are shared; other ranks get an empty list."""
    parts: list[Any] = [mine] * world_size()
    if world_size() > 1:
        dist.gather_object(mine, parts if rank() == 0 else None, group=_patient)
    return parts[:tasks] if rank() == 0 else []


def total(values: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Sum values over ranks."""
    if world_size() > 1:
        values = values.clone()
        dist.all_reduce(values)
    return values


def average(tensors: Sequence[Tensor]) -> list[Tensor]:
    """Average tensors over ranks, in one message."""
    if world_size() == 1:
        return list(tensors)
    flat = torch.cat([x.reshape(-1) for x in tensors])
    dist.all_reduce(flat)
    flat /= world_size()
    parts = flat.split([x.numel() for x in tensors])
    return [part.view_as(x) for part, x in zip(parts, tensors, strict=True)]


def spread(tensors: Sequence[Tensor]) -> None:
    """Overwrite tensors on all ranks with those of rank 0."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def own_tasks(count: int) -> range:
    """Choose the tasks of this rank: consecutive ones, shared out evenly.

    Of more ranks than tasks, the last repeat what the first ``count`` do; `gather` and `collect` leave them out.
    """
    ranks = min(world_size(), count)
    mine = rank() % ranks
    return range(mine * count // ranks, (mine + 1) * count // ranks)


@dataclass(frozen=True)
class Share:
    """Part of a (K tasks, B rows) batch that one rank works on: some tasks, or some rows of every task.

    Args:
        num_tasks: K.
        tasks: The tasks of this rank.
        part: Which part of the rows is this rank's.
        parts: How many equal parts they have.
    """

    num_tasks: int
    tasks: range
    part: int = 0
    parts: int = 1

    @property
    def is_whole(self) -> bool:
        """True if this rank works on everything."""
        return len(self.tasks) == self.num_tasks and self.parts == 1

    @property
    def task_slice(self) -> slice:
        """Slice of this rank's tasks on an axis of K."""
        return slice(self.tasks.start, self.tasks.stop)

    def rows(self, count: int) -> slice:
        """Slice of this rank's rows among ``count`` rows."""
        if count % self.parts:  # means over ranks of different numbers of rows would be no means
            raise ConfigurationError(
                f"model.batch_size is {count}, which {self.parts} ranks cannot share: make it one of their multiples"
            )
        return slice(self.part * count // self.parts, (self.part + 1) * count // self.parts)

    def randn(self, shape: Sequence[int], device: torch.device) -> Tensor:
        """Draw standard normal numbers for all rows, and return those of this rank.

        ``shape`` is ``(k, b, ...)`` with the k tasks and b rows of this rank, maybe with its first axes joined.
        """
        if self.is_whole:
            return torch.randn(*shape, device=device)
        rest = torch.Size(shape).numel() // len(self.tasks)  # b times what each row needs
        whole = torch.randn(self.num_tasks, self.parts, rest, device=device)
        return whole[self.task_slice, self.part].reshape(*shape)
