"""Transitions of K tasks as one packed tensor, so that drawing a batch is one gather on the device that trains."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from mbml_lightning.ranks import Share
from mbml_lightning.types import TaskBatch, Transitions


class Window(NamedTuple):
    """Tells from which of a task's rows a context is drawn.

    Attributes:
        context_size: Rows of one context (C).
        span: Consecutive rows of a task, at a random place for each context, that are drawn from.
    """

    context_size: int
    span: int


@dataclass
class Rows:
    """Transitions of K tasks as packed rows (s, a, s', r, termination, outcomes), ``(K, N, D)``.

    Args:
        packed: The rows; N is the capacity.
        observation_dim: Dimensions of s.
        action_dim: Dimensions of a.
        count: How many rows of each task are filled.
        outcome_dim: Last columns that hold what the simulation measured, where s' does not tell it; else 0.
        digest: SHA-256 of the store that they are from.
        tasks: The tasks of the run, ``(K, *task_shape)``; None for the official ones.

    Example:
        >>> import torch
        >>> from mbml_lightning.data.rows import Rows
        >>> from mbml_lightning.types import Transitions
        >>> rows = Rows.empty(tasks=5, capacity=100, observation_dim=4, action_dim=2)
        >>> step = [torch.zeros(5, 1, *shape) for shape in ((4,), (2,), (), (4,), ())]  # s, a, r, s', termination
        >>> rows.append(Transitions(*step))
        >>> batch = rows.draw(torch.Generator(), batch_size=32, context_size=8)
        >>> batch.transitions.observations.shape, batch.contexts.rewards.shape
        (torch.Size([5, 32, 4]), torch.Size([5, 8]))
    """

    packed: Float[Tensor, "K N D"]
    observation_dim: int
    action_dim: int
    count: int
    outcome_dim: int = 0
    digest: str | None = None
    tasks: np.ndarray | None = None

    @classmethod
    def empty(cls, tasks: int, capacity: int, observation_dim: int, action_dim: int, outcome_dim: int = 0) -> "Rows":
        """Make room for ``capacity`` transitions of each task."""
        width = 2 * observation_dim + action_dim + 2 + outcome_dim
        return cls(torch.zeros(tasks, capacity, width), observation_dim, action_dim, 0, outcome_dim)

    @property
    def states(self) -> Float[Tensor, "K n S"]:
        """The states s of all filled rows."""
        return self.packed[:, : self.count, : self.observation_dim]

    @property
    def outcomes(self) -> Float[Tensor, "K N O"] | None:
        """Outcomes that the simulation measured at every step, where they were kept."""
        return self.packed[..., -self.outcome_dim :] if self.outcome_dim else None

    def unpack(self, rows: Float[Tensor, "*n D"]) -> Transitions:
        """Split packed rows into fields, without copying."""
        widths = [self.observation_dim, self.action_dim, self.observation_dim, 1, 1, self.outcome_dim]
        s, a, next_s, r, termination, _ = rows.split(widths, -1)
        return Transitions(s, a, r.squeeze(-1), next_s, termination.squeeze(-1))

    def append(self, steps: Transitions, outcomes: Float[Tensor, "K m O"] | None = None) -> None:
        """Add the next transitions of every task.

        Args:
            steps: Transitions ``(K, m)``.
            outcomes: What the simulation measured, if that is kept.
        """
        columns = [steps.observations, steps.actions, steps.next_observations, steps.rewards, steps.terminations]
        columns += [] if outcomes is None else [outcomes]
        new = torch.cat([c.unsqueeze(-1) if c.ndim == 2 else c for c in columns], -1)
        self.packed[:, self.count : self.count + new.shape[1]] = new
        self.count += new.shape[1]

    def select(self, index: Int[Tensor, "K C"]) -> "Rows":
        """Pick some rows of every task, in the order of ``index``."""
        packed = self.packed.gather(1, index.unsqueeze(-1).expand(-1, -1, self.packed.shape[-1]))
        return replace(self, packed=packed, count=index.shape[1])

    def draw(
        self,
        generator: torch.Generator,
        batch_size: int,
        context_size: int = 0,
        share: Share | None = None,
        window: Window | None = None,
    ) -> TaskBatch:
        """Draw rows of every task uniformly with replacement, in one gather for the batch and the contexts.

        Args:
            generator: Draws the indices; on the device of the rows.
            batch_size: Transitions a task to learn from (B).
            context_size: Transitions a task to infer the task from (C).
            share: What of the batch this rank needs: some tasks, which are all that is packed here, or some of the
                transitions; contexts are never parted.
            window: Of the rows of each context; None to draw them from all rows.
        """
        tasks, capacity, width = self.packed.shape
        device, share = self.packed.device, share or Share(tasks, range(tasks))
        size = (share.num_tasks, batch_size + context_size)
        index = torch.randint(self.count, size, generator=generator, device=device)
        if window is not None:
            index[:, batch_size:] = self.within(window, (share.num_tasks, context_size), generator)
        if not share.is_whole:
            mine, contexts = index[share.task_slice].split([batch_size, context_size], 1)
            index = torch.cat([mine[:, share.rows(batch_size)], contexts], 1)
            batch_size = index.shape[1] - context_size
        flat = (index + capacity * torch.arange(tasks, device=device).unsqueeze(-1)).flatten()
        rows = self.packed.view(-1, width).index_select(0, flat).view(tasks, -1, width)
        if not context_size:
            return TaskBatch(self.unpack(rows))
        return TaskBatch(self.unpack(rows[:, :batch_size]), self.unpack(rows[:, batch_size:]), index[:, batch_size:])

    def within(self, window: Window, size: tuple[int, int], generator: torch.Generator) -> Int[Tensor, "K C"]:
        """Draw the indices of contexts from as many windows, each at a random place."""
        device, span = self.packed.device, min(window.span, self.count)
        windows = (size[0], size[1] // window.context_size)
        begins = torch.randint(self.count - span + 1, windows, generator=generator, device=device)
        places = torch.randint(span, size, generator=generator, device=device)
        return begins.repeat_interleave(window.context_size, 1) + places


def pack(fields: list[dict[str, np.ndarray]]) -> Float[Tensor, "K N D"]:
    """Pack the stored fields of K tasks of equal length into rows, with no other copy in memory."""
    order = ["observations", "actions", "next_observations", "rewards", "terminations"]
    order += ["outcomes"] if "outcomes" in fields[0] else []
    count = len(fields[0]["rewards"])
    widths = [np.asarray(fields[0][name]).reshape(count, -1).shape[1] for name in order]
    packed = np.empty((len(fields), count, sum(widths)), np.float32)
    for rows, task in zip(packed, fields, strict=True):
        for columns, name in zip(np.split(rows, np.cumsum(widths)[:-1], axis=1), order, strict=True):
            columns[...] = np.asarray(task[name]).reshape(count, -1)
    return torch.from_numpy(packed)
