"""Posterior means of contexts before and after training, the file ``posteriors.npz`` of a run."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import read_arrays

AXES = {"own": 3, "relabelled": 4}


class Means(NamedTuple):
    """Posterior means of ``n`` contexts a task.

    Attributes:
        own: Of each task's own transitions.
        relabelled: Of task ``j``'s transitions with the rewards of task ``i``, at ``[i, j]``.
    """

    own: Float[np.ndarray, "K n Z"]
    relabelled: Float[np.ndarray, "K K n Z"]


def load_posteriors(path: Path) -> dict[str, Means]:
    """Read ``posteriors.npz``: the posterior means ``before`` and ``after`` training, as far as they are there.

    Raises:
        ResultsError: The file cannot be read, or an array is missing, not finite or of another shape.
    """
    arrays = read_arrays(path)
    try:
        moments = [when for when in ("before", "after") if f"{when}_own" in arrays]
        read = {when: Means(*(arrays[f"{when}_{kind}"] for kind in AXES)) for when in moments}
    except KeyError as error:
        raise ResultsError(f"{path}: an array is missing ({error.args[0]}); train again") from None
    for when, means in read.items():
        _check(path, when, means)
    return read


def _check(path: Path, when: str, means: Means) -> None:
    for (kind, axes), array in zip(AXES.items(), means, strict=True):
        if array.ndim != axes or array.dtype.kind != "f" or not array.size or not np.isfinite(array).all():
            raise ResultsError(
                f"{path}: {when}_{kind} is {array.dtype} {array.shape}, not finite floats of {axes} axes; train again"
            )
    if means.relabelled.shape[:2] != (len(means.own),) * 2 or means.relabelled.shape[3] != means.own.shape[2]:
        raise ResultsError(
            f"{path}: {when}_relabelled is {means.relabelled.shape}, which does not fit "
            f"{when}_own {means.own.shape}; train again"
        )
