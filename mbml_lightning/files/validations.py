"""The place of a validation's results: never in the place of an evaluation that says more, or something else."""

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.evaluation import Evaluation, Split, file_name, load_trajectories, save_trajectories
from mbml_lightning.files.writing import hash_json

BESIDE = "validations"
"""Folder within a run's, for what may not take the place of the run's own evaluation."""
Trajectories = dict[str, Float[np.ndarray, "tasks episodes T S"]]


class Place(NamedTuple):
    """The file in which a validation is kept.

    Attributes:
        path: The file.
        earlier: The evaluation that is there and is joined, None if there is none, or it says less.
        reason: Why it is not in the run's own place; empty if it is.
    """

    path: Path
    earlier: Evaluation | None
    reason: str = ""


def place(folder: Path, new: Evaluation) -> Place:
    """Choose the file of a validation: the run's own, joined with what it holds, or one beside it."""
    own = folder / file_name("evaluation.json", new.protocol)
    beside = folder / BESIDE / f"{hash_json(_identity(new))[:8]}.json"
    if not own.exists():
        return Place(own, None)
    try:
        old = Evaluation.load(own)
    except ResultsError as error:
        return Place(beside, _read(beside), str(error))
    if _identity(old) == _identity(new):
        return Place(own, old)
    if covers(new, old):
        return Place(own, None)
    return Place(beside, _read(beside), f"{own} {_difference(old, new)}")


def keep(folder: Path, new: Evaluation, trajectories: Trajectories) -> Place:
    """Write a validation and the observations of its first trials where they belong."""
    chosen = place(folder, new)
    pictures = chosen.path.with_suffix(".npz")
    if chosen.path.parent == folder:
        pictures = folder / file_name("trajectories.npz", new.protocol)
    if chosen.earlier is not None:
        try:
            earlier = load_trajectories(pictures, chosen.earlier) if pictures.exists() else {}
        except ResultsError:
            earlier = {}
        new = joined(chosen.earlier, new)
        taken = {name: x for name, x in trajectories.items() if len(x) == len(new.splits[name].tasks)}
        trajectories = earlier | taken
    new.save(chosen.path)
    save_trajectories(pictures, trajectories)
    return chosen


def joined(old: Evaluation, new: Evaluation) -> Evaluation:
    """Join two evaluations of the same weights and settings: of a split in both, the one of more tasks."""
    return replace(new, splits={name: _larger(old, new, name) for name in [*old.splits, *new.splits]})


def covers(new: Evaluation, old: Evaluation) -> bool:
    """Tell whether an evaluation says all that an earlier one does, from at least as many trials on the same tasks."""
    same = _identity(new) | {"trials": 0} == _identity(old) | {"trials": 0}
    wider = all(
        name in new.splits and new.splits[name].tasks[: len(split.tasks)] == split.tasks
        for name, split in old.splits.items()
    )
    return same and wider and new.trials >= old.trials


def _identity(evaluation: Evaluation) -> dict[str, Any]:
    """Collect what two evaluations have in common that can be joined; an older one may not tell its settings."""
    names = ("method", "distribution", "protocol", "horizon", "episodes", "uncounted", "trials")
    made = {name: evaluation.made_of.get(name) for name in ("weights", "settings")}
    return {name: getattr(evaluation, name) for name in names} | made


def _difference(old: Evaluation, new: Evaluation) -> str:
    """Say why one evaluation does not take the place of another."""
    before, now = _identity(old), _identity(new)
    if before["weights"] != now["weights"]:
        return "is of other weights"
    odd = [name for name in before if before[name] != now[name]]
    return f"has {odd[0]} {before[odd[0]]}, this one {now[odd[0]]}" if odd else "holds more splits or tasks"


def _larger(old: Evaluation, new: Evaluation, name: str) -> Split:
    splits = [e.splits[name] for e in (new, old) if name in e.splits]
    return max(splits, key=lambda split: len(split.tasks))  # of equals the first, which is the new one


def _read(path: Path) -> Evaluation | None:
    """Read an evaluation beside the run's own, if there is one to join."""
    try:
        return Evaluation.load(path)
    except ResultsError:
        return None
