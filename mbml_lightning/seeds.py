"""Random numbers from names: one scheme for training, collection and evaluation.

A stream of random numbers is named by what it is for, such as (seed, split, task, trial, episode, purpose). The name
is hashed to the seed of a generator, so that two streams never share numbers by accident (as ``seed + step`` would),
and no stream depends on what else runs, on how many ranks, or in which order.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor


def seed_of(*name: int | str, bits: int = 32) -> int:
    """Hash a name to a non-negative integer of ``bits`` bits.

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


@dataclass(frozen=True)
class EpisodeSeeds:
    """The random numbers of all episodes of K tasks with B trials each, which do not depend on who else acts.

    Args:
        seed: First part of every name.
        split: The set that the tasks belong to.
        tasks: Numbers of the K tasks in that set.
        trials: Numbers of the B trials.
        device: Where random numbers are put, the CPU if None; they are always drawn on the CPU.
        parameters: The K tasks themselves, if they are not the official ones of these numbers.
    """

    seed: int
    split: str
    tasks: Sequence[int]
    trials: Sequence[int]
    device: torch.device | None = None
    parameters: np.ndarray | None = None

    def resets(self, purpose: str, episode: int) -> list[int]:
        """Seeds for ``env.reset`` of K * B environment copies, the trials of a task side by side."""
        return [
            seed_of(self.seed, self.split, task, trial, episode, purpose)
            for task in self.tasks
            for trial in self.trials
        ]

    def normal(self, purpose: str, episode: int, *shape: int) -> Float[Tensor, "K B *shape"]:
        """Draw standard normal numbers for every task and trial, each from a generator of its own."""
        generators = (torch.Generator().manual_seed(seed) for seed in self.resets(purpose, episode))
        drawn = torch.stack([torch.randn(*shape, generator=generator) for generator in generators])
        return drawn.view(len(self.tasks), len(self.trials), *shape).to(self.device)
