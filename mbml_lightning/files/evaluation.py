"""Results of an evaluation: returns of all episodes, and some trajectories; checked when they are read."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
from jaxtyping import Float

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import hash_json, naming, read_arrays, read_sealed_json, write_arrays, write_text
from mbml_lightning.splits import SPLITS

SCHEMA = 2
AGAIN = "evaluate again"
PAPER_PROTOCOL = "prior-online"
"""Name of the paper's context protocol, whose evaluation is ``evaluation.json``."""


def file_name(name: str, protocol: str) -> str:
    """Name a protocol's file: ``evaluation.json`` for the paper's, ``evaluation-<protocol>.json`` for another."""
    stem, dot, ending = name.partition(".")
    return name if protocol == PAPER_PROTOCOL else f"{stem}-{protocol}{dot}{ending}"


@dataclass(frozen=True, eq=False)
class Split:
    """Returns on the tasks of one split.

    Args:
        tasks: The tasks as JSON holds them: numbers, or lists of numbers such as a goal's [x, y].
        returns: Sum of rewards of every episode, episodes in the order in which they were acted.
    """

    tasks: list[Any]
    returns: Float[np.ndarray, "tasks trials episodes"]


@dataclass(frozen=True, eq=False)
class Evaluation:
    """Returns of one trained method under one protocol, a file of its run that `file_name` names.

    Args:
        method: Name of the method.
        distribution: Name of the task distribution.
        env_id: Gymnasium id of the environment.
        seed: Seed of the training.
        step: Updates of the weights that were evaluated.
        protocol: Name of the context protocol, by which the task becomes known: see `evaluation.contexts`.
        horizon: Environment steps of an episode.
        episodes: Episodes of a trial, in the course of which a method may adapt.
        uncounted: First episodes of a trial that the score leaves out.
        trials: Independent repetitions on every task, each from the prior.
        splits: By the names ``train`` and ``test``; a method that knows only its own tasks has no ``test``.
        made_by: Versions, command and machine. The report reads ``wall_clock``, a dict of seconds by phase, of which
            ``training`` stands in its table.
        made_of: SHA-256 of the ``weights`` that acted, of the ``data`` and ``parents`` that they were learned from,
            and of the actors that collected contexts; the whole configuration (``config``).

    Raises:
        ResultsError: No episode counts, or a shape or a return is impossible.
    """

    method: str
    distribution: str
    env_id: str
    seed: int
    step: int
    protocol: str
    horizon: int
    episodes: int
    uncounted: int
    trials: int
    splits: dict[str, Split]
    made_by: dict[str, Any] = field(default_factory=dict)
    made_of: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.uncounted < self.episodes:
            raise ResultsError(f"uncounted is {self.uncounted}: none of {self.episodes} episodes would count")
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise ResultsError(f"splits are {sorted(self.splits)}, but must be some of {', '.join(SPLITS)}")
        for name, split in self.splits.items():
            shape, needed = split.returns.shape, (len(split.tasks), self.trials, self.episodes)
            if shape != needed or not split.tasks:
                raise ResultsError(
                    f"splits.{name}.returns has shape {shape}, not {needed} of (tasks, trials, episodes)"
                )
            if not np.isfinite(split.returns).all():
                raise ResultsError(f"splits.{name}.returns holds NaN or infinity")

    @property
    def wall_clock(self) -> dict[str, float]:
        """Seconds by phase, as far as ``made_by`` holds them."""
        return self.made_by.get("wall_clock", {})

    def save(self, path: Path) -> None:
        """Write ``evaluation.json``, whole or not at all."""
        content = {"schema": SCHEMA} | {f.name: getattr(self, f.name) for f in fields(self)}
        content["splits"] = {
            name: {"tasks": split.tasks, "returns": split.returns.tolist()} for name, split in self.splits.items()
        }
        content["sha256"] = hash_json(content)
        write_text(path, json.dumps(content, indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read an evaluation from its file; refuse one of another schema, or with a missing or impossible field."""
        content = read_sealed_json(path, SCHEMA, ResultsError, AGAIN)
        for name, hint in get_type_hints(cls).items():
            if type(content.get(name)) is not (get_origin(hint) or hint):
                raise ResultsError(f"{path}: field {name} is missing or of another type; {AGAIN}")
        with naming(path, ResultsError, AGAIN):
            splits = {
                name: Split(list(split["tasks"]), np.array(split["returns"], np.float64, ndmin=3))
                for name, split in content["splits"].items()
            }
        try:
            return cls(**{f.name: content[f.name] for f in fields(cls)} | {"splits": splits})
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}; {AGAIN}") from None


def summary(label: str, evaluation: Evaluation, path: Path, reason: str) -> str:
    """Say in a line or two what an evaluation gave, where it is, and why it is not in the run's own place."""
    means = [
        f"{name} {split.returns[..., evaluation.uncounted :].mean():.1f}" for name, split in evaluation.splits.items()
    ]
    trials = "1 trial" if evaluation.trials == 1 else f"{evaluation.trials} trials"
    line = f"{label}, {evaluation.protocol}: return {', '.join(means)} ({trials} a task) in {path}"
    return f"{line}\n  ({reason}, and stays)" if reason else line


def save_trajectories(path: Path, trajectories: dict[str, Float[np.ndarray, "tasks episodes T S"]]) -> None:
    """Write ``trajectories.npz``, whole or not at all: by split the observations of every task's first trial."""
    write_arrays(path, {name: array.astype(np.float32) for name, array in trajectories.items()})


def load_trajectories(path: Path, evaluation: Evaluation) -> dict[str, Float[np.ndarray, "tasks episodes T S"]]:
    """Read ``trajectories.npz``; refuse one that is not of this evaluation's tasks and episodes."""
    trajectories = {name: array for name, array in read_arrays(path).items() if name in evaluation.splits}
    for name, array in trajectories.items():
        expected = (len(evaluation.splits[name].tasks), evaluation.episodes)
        if array.ndim != 4 or array.shape[:2] != expected or array.dtype.kind != "f":
            found = f"{array.dtype} {array.shape}"
            raise ResultsError(f"{path}: {name} is {found}, not {expected} of (T+1, S) floats; {AGAIN}")
    return trajectories
