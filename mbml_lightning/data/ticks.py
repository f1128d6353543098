"""Loaders that only count: batches are drawn on the device, by the method."""

from collections.abc import Iterator


class Ticks:
    """``range(n)`` as a loader; a class, because Lightning takes a list for several loaders.

    Args:
        n: How many.
    """

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.n))


def blocks(max_steps: int, updates_per_block: int) -> Ticks:
    """One tick for every block of updates of a run, so that one epoch is the whole run and its bar shows the rest.

    Raises:
        ValueError: If the run has no end.
    """
    if max_steps < 1:
        raise ValueError(f"trainer.max_steps is {max_steps}: set it to the number of gradient updates")
    return Ticks(-(-max_steps // updates_per_block))
