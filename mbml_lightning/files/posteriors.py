"""Posterior means of contexts before and after training: ``posteriors.npz`` of a run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import read_arrays

AXES = {"own": 3, "relabelled": 4}
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
    """Read the posterior means ``before`` and ``after`` training, as far as the file has them.

    Raises:
        ResultsError: The file cannot be read, or an array is missing, not finite or of another shape.
    """
    arrays = read_arrays(path)
    moments = [when for when in ("before", "after") if f"{when}_own" in arrays]
    found = {
        when: Means(*(_checked(path, arrays, f"{when}_{kind}", n) for kind, n in AXES.items())) for when in moments
    }
    for when, (own, relabelled) in found.items():
        if relabelled.shape != (len(own), *own.shape):
            raise ResultsError(
                f"{path}: {when}_relabelled is {relabelled.shape}, which does not fit {when}_own; {AGAIN}"
            )
    return found


def _checked(path: Path, arrays: dict[str, np.ndarray], name: str, axes: int) -> np.ndarray:
    """Take one array, which must hold finite numbers on so many axes."""
    if name not in arrays:
        raise ResultsError(f"{path}: an array is missing ({name}); {AGAIN}")
    array = arrays[name]
    if array.ndim != axes or array.dtype.kind != "f" or not array.size or not np.isfinite(array).all():
        found = f"{array.dtype} {array.shape}"
        raise ResultsError(f"{path}: {name} is {found}, not finite floats of {axes} axes; {AGAIN}")
    return array
