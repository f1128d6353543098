"""Counts the environment steps of a collection, and the updates that it makes of them.

A vector step is one step of all m environment copies of a task. The warm-up of W steps comes first; after it every
vector step is followed by u updates.
"""


def steps_of(updates: int, warmup: int, copies: int = 1, updates_per_step: int = 1) -> int:
    """Count the steps of each task that so many updates need, warm-up included: m (ceil(W / m) + ceil(updates / u)).

    Example:
        >>> from mbml_lightning.data.budget import steps_of, updates_of
        >>> steps_of(updates=14_750, warmup=1_000, copies=4)
        60000
        >>> updates_of(steps=60_000, warmup=1_000, copies=4)
        14750
    """
    return copies * (-(-warmup // copies) - (-updates // updates_per_step))


def updates_of(steps: int, warmup: int, copies: int = 1, updates_per_step: int = 1) -> int:
    """Count the updates that so many steps of each task leave room for: u (steps / m - ceil(W / m))."""
    return updates_per_step * (steps // copies + -warmup // copies)
