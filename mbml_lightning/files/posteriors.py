"""Posterior means of contexts before and after training: ``posteriors.npz`` of a run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import read_arrays

AGAIN = "train again"


class Means(NamedTuple):
    """Posterior means of ``n`` contexts a task.

    Attributes:
        own: Of each task's own transitions.
        relabelled: Of task ``j``'s transitions with the rewards of task ``i``, at ``[i, j]``.
    """

    own: Float[np.ndarray, "K n Z"]
    relabelled: Float[np.ndarray, "K K n Z"]


def load_posteriors(path: Path) -> dict[str, Means]:
    """Read the posterior means ``before`` and ``after`` training, as far as the file has them; refuse a damaged one."""
    arrays, found = read_arrays(path), {}
    for when in ("before", "after"):
        if f"{when}_own" not in arrays:
            continue
        for name, axes in ((f"{when}_own", 3), (f"{when}_relabelled", 4)):
            if (array := arrays.get(name)) is None:
                raise ResultsError(f"{path}: an array is missing ({name}); {AGAIN}")
            if array.ndim != axes or array.dtype.kind != "f" or not array.size or not np.isfinite(array).all():
                what = f"{array.dtype} {array.shape}"
                raise ResultsError(f"{path}: {name} is {what}, not finite floats of {axes} axes; {AGAIN}")
        own, relabelled = arrays[f"{when}_own"], arrays[f"{when}_relabelled"]
        if relabelled.shape != (len(own), *own.shape):
            unfit = f"{when}_relabelled is {relabelled.shape}, which does not fit {when}_own"
            raise ResultsError(f"{path}: {unfit}; {AGAIN}")
        found[when] = Means(own, relabelled)
    return found
