"""One torch thread while acting: torch's threads wait for work by spinning, on the cores that the physics needs."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def cores_for_physics() -> Iterator[None]:
    """Keep torch to one thread within the block, in which small networks and simulations take turns."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
