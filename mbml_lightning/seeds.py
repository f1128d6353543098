"""Random numbers from names: one scheme for training, collection and evaluation.

A stream of random numbers is named by what it is for, such as (seed, split, task, trial, episode, purpose). The name
is hashed to the seed of a generator, so that two streams never share numbers by accident (as ``seed + step`` would),
and no stream depends on what else runs, on how many ranks, or in which order.
"""

import hashlib


def seed_of(*name: int | str, bits: int = 32) -> int:
    """A non-negative integer of ``bits`` bits that depends on the whole name.

    Args:
        name: The parts of the name, the run's seed first.
        bits: A multiple of 8; 32 for seeds of environments, 56 for torch's generators.

    Example:
        >>> from mbml_lightning.seeds import seed_of
        >>> seed_of(0, "test", 3, "reset") == seed_of(0, "test", 3, "reset")
        True
        >>> seed_of(0, "test", 3, "reset") == seed_of(0, "test", 4, "reset")
        False
    """
    text = "/".join(map(str, name))
    return int.from_bytes(hashlib.blake2s(text.encode(), digest_size=bits // 8).digest(), "big")
