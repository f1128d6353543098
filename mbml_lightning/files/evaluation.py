"""What an evaluation leaves on disk: the returns and some trajectories, checked when they are read."""

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import numpy as np
from jaxtyping import Float

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.writing import read_arrays, replacing, sha256_of, write_text

SCHEMA = 2
SPLITS = ("train", "test", "ood")
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
        made_by: What else is worth knowing (versions, command). The report reads ``wall_clock``, a dict of seconds by
            phase, of which ``training`` stands in its table.
        made_of: SHA-256 of the ``weights`` that acted, of the ``data`` and ``parents`` that they were learned from,
            and of the actors that collected contexts; the whole configuration (``config``).

    Raises:
        ResultsError: A count, a shape or a return is impossible.
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
        for name, least in {"seed": 0, "step": 0, "horizon": 1, "episodes": 1, "uncounted": 0, "trials": 1}.items():
            if getattr(self, name) < least:
                raise ResultsError(f"{name} is {getattr(self, name)}, but must be at least {least}")
        if self.uncounted >= self.episodes:
            raise ResultsError(f"uncounted is {self.uncounted}: none of {self.episodes} episodes would count")
        if not self.splits or not set(self.splits) <= set(SPLITS):
            raise ResultsError(f"splits are {sorted(self.splits)}, but must be some of {', '.join(SPLITS)}")
        for name, split in self.splits.items():
            shape = (len(split.tasks), self.trials, self.episodes)
            if split.returns.shape != shape or not split.tasks:
                raise ResultsError(
                    f"splits.{name}.returns has shape {split.returns.shape}, but (tasks, trials, episodes) is {shape}"
                )
            if not np.isfinite(split.returns).all():
                raise ResultsError(f"splits.{name}.returns holds NaN or infinity; evaluate again")

    @property
    def wall_clock(self) -> dict[str, float]:
        """Seconds by phase, as far as ``made_by`` notes them."""
        noted = self.made_by.get("wall_clock")
        phases = noted.items() if isinstance(noted, dict) else ()
        return {phase: float(seconds) for phase, seconds in phases if type(seconds) in (int, float)}

    def save(self, path: Path) -> None:
        """Write ``evaluation.json``, whole or not at all."""
        content = {"schema": SCHEMA} | {f.name: getattr(self, f.name) for f in fields(self)}
        content["splits"] = {
            name: {"tasks": split.tasks, "returns": split.returns.tolist()} for name, split in self.splits.items()
        }
        content["sha256"] = sha256_of(content)
        write_text(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Evaluation":
        """Read ``evaluation.json``.

        Raises:
            ResultsError: The file cannot be read, has another schema, or a field is missing or impossible.
        """
        try:
            if not path.is_file():  # a pipe would be waited for
                raise OSError("no such file")
            return cls._from_json(json.loads(path.read_text(encoding="utf-8")))
        except ResultsError as error:
            raise ResultsError(f"{path}: {error}") from None
        except (OSError, ValueError, RecursionError) as error:
            raise ResultsError(f"{path}: cannot be read ({error}); evaluate again") from None

    @classmethod
    def _from_json(cls, content: Any) -> "Evaluation":
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise ResultsError(f"schema is {schema}, but this version reads {SCHEMA} only; evaluate again")
        if content.get("sha256") != sha256_of(content):
            raise ResultsError("its content is not that of its SHA-256: it was damaged or changed; evaluate again")
        for name, hint in get_type_hints(cls).items():
            kind = get_origin(hint) or hint
            if type(content.get(name)) is not kind:
                raise ResultsError(f"field {name} is missing or not of type {kind.__name__}; evaluate again")
        splits = {name: _split(name, value) for name, value in content["splits"].items()}
        return cls(**{f.name: content[f.name] for f in fields(cls)} | {"splits": splits})


def _split(name: str, content: Any) -> Split:
    try:
        returns = np.array(content["returns"], dtype=np.float64)
        tasks = list(content["tasks"])
    except (KeyError, TypeError, ValueError):
        raise ResultsError(f"splits.{name} has no tasks with numeric returns; evaluate again") from None
    if returns.ndim != 3:
        raise ResultsError(f"splits.{name}.returns has axes {returns.shape}, not (tasks, trials, episodes)")
    return Split(tasks, returns)


def save_trajectories(path: Path, trajectories: dict[str, Float[np.ndarray, "tasks episodes T S"]]) -> None:
    """Write ``trajectories.npz``, whole or not at all: by split the observations of every task's first trial."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **{name: array.astype(np.float32) for name, array in trajectories.items()})  # type: ignore[arg-type]


def load_trajectories(path: Path, evaluation: Evaluation) -> dict[str, Float[np.ndarray, "tasks episodes T S"]]:
    """Read ``trajectories.npz``: by split the observations of every task's first trial.

    Raises:
        ResultsError: The file cannot be read, or is not of this evaluation's tasks and episodes.
    """
    trajectories = {name: array for name, array in read_arrays(path).items() if name in evaluation.splits}
    for name, array in trajectories.items():
        expected = (len(evaluation.splits[name].tasks), evaluation.episodes)
        if array.ndim != 4 or array.shape[:2] != expected or array.dtype.kind != "f":
            raise ResultsError(
                f"{path}: {name} is {array.dtype} {array.shape}, not {expected} of (T+1, S) floats; evaluate again"
            )
    return trajectories
