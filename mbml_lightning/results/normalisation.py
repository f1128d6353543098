"""Normalised scores: 0 is what random actions return on a task, 100 what SAC does."""

import functools
import json
from collections.abc import Sequence
from importlib import resources
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Float64

DATA = "normalisation.json"


class Reference(NamedTuple):
    """Two ends of the scale for each of some tasks.

    Attributes:
        random: Mean return of uniformly random actions.
        sac: Return of SAC; where it was not measured on these tasks, the same number for all.
        source: Where SAC's returns are from.
    """

    random: Float64[np.ndarray, " tasks"]
    sac: Float64[np.ndarray, " tasks"]
    source: str


@functools.cache
def table() -> dict[str, Any]:
    """Read all references by distribution; ``python -m benchmarks.normalisation`` measures them."""
    return json.loads(resources.files(__package__).joinpath(DATA).read_text(encoding="utf-8"))


def reference(distribution: str, split: str, tasks: Sequence[Any]) -> Reference | None:
    """Look up the references of official tasks, None where one of the two is not known.

    Args:
        distribution: Its name; with other options than the defaults it is another problem, which has no references.
        split: Name of the task set.
        tasks: The tasks: the first so many of the set.
    """
    from mbml_lightning import envs  # brings Gymnasium and MuJoCo

    entry = table().get(distribution)
    if entry is None or split not in entry["random"] or "sac" not in entry:
        return None
    official = envs.distribution(distribution).tasks(split)[: len(tasks)]
    if not np.array_equal(official, np.asarray(tasks, dtype=np.float64)):
        return None
    sac, n = entry["sac"], len(tasks)
    random = np.array(entry["random"][split][:n], dtype=np.float64)
    returns = np.array(sac["train"][:n]) if split == "train" and "train" in sac else np.full(n, sac["mean"])
    return Reference(random, returns.astype(np.float64), sac["source"])


def normalised(returns: Float[np.ndarray, "*n tasks"], between: Reference) -> Float64[np.ndarray, "*n tasks"]:
    """Scale returns task by task: 100 (R - R_random) / (R_SAC - R_random)."""
    return 100 * (returns - between.random) / (between.sac - between.random)
