"""The runs of one experiment, grouped by method: what a report's table and pictures are made of."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float64

from mbml_lightning.evaluation.metrics import Metrics
from mbml_lightning.evaluation.normalisation import Reference, normalised, reference
from mbml_lightning.evaluation.results import Evaluation, ResultsError, load_trajectories
from mbml_lightning.evaluation.statistics import Estimate, counted_return, mean_interval

LABELS = {"mbml": "MBML", "neither": "Neither", "bcq": "BCQ", "sac": "SAC", "random": "Random"}
DESCRIPTIONS = {
    "mbml": "one policy for all tasks, which infers the task from its own episodes",
    "neither": "MBML without the triplet loss and without relabelling",
    "bcq": "the teachers: one policy a train task, each on its own task",
    "sac": "the collectors: one policy a train task, each on its own task",
    "random": "actions drawn uniformly",
}
REFERENCES = ("bcq", "sac", "random")
NOT_ACTING = ("reward_ensemble", "next_state_ensemble")


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder ``<method>/<seed>``, as far as it can be read.

    Args:
        folder: The run folder.
        evaluation: None for a run that is not finished, or whose evaluation cannot be used.
        metrics: Empty where the run logged none.
        trajectories: Observations of every task's first trial by split, empty where none were kept.
    """

    folder: Path
    evaluation: Evaluation | None
    metrics: Metrics
    trajectories: dict[str, Float[np.ndarray, "tasks episodes T S"]]

    @property
    def method(self) -> str:
        """Name of the method: the folder above the run's."""
        return self.folder.resolve().parent.name

    @property
    def training_seconds(self) -> float:
        """Wall-clock of the training: as the evaluation notes it, else as the log tells, else NaN."""
        noted = self.evaluation.wall_clock if self.evaluation else {}
        return noted.get("training", self.metrics.seconds)


@dataclass(frozen=True, eq=False)
class Method:
    """All runs of one method."""

    name: str
    runs: list[Run]

    @property
    def label(self) -> str:
        """Name for a reader."""
        return LABELS.get(self.name, self.name)

    @property
    def is_reference(self) -> bool:
        """Whether it is a yardstick that adapts to no task, and not MBML or one of its ablations."""
        return self.name in REFERENCES

    @property
    def evaluations(self) -> list[Evaluation]:
        """Of the finished runs."""
        return [run.evaluation for run in self.runs if run.evaluation]

    def scores(self, split: str) -> Float64[np.ndarray, "seeds tasks"] | None:
        """Counted return of every seed and task, mean over trials; None where the split was not evaluated."""
        scores = [
            counted_return(e.splits[split].returns, e.uncounted).mean(1) for e in self.evaluations if split in e.splits
        ]
        return np.stack(scores) if scores else None

    def estimate(self, split: str) -> Estimate | None:
        """Mean of ``scores`` with its interval."""
        scores = self.scores(split)
        return None if scores is None else mean_interval(scores)

    def normalised(self, split: str) -> Estimate | None:
        """Mean of the normalised ``scores`` with its interval; None where there are no references."""
        scores, between = self.scores(split), self.reference(split)
        return None if scores is None or between is None else mean_interval(normalised(scores, between))

    def reference(self, split: str) -> Reference | None:
        """What 0 and 100 are on the evaluated tasks."""
        first = next((e for e in self.evaluations if split in e.splits), None)
        return None if first is None else reference(first.distribution, split, first.splits[split].tasks)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Methods on one task distribution, MBML first, its ablations next, the references last.

    Args:
        methods: At least one.
        problems: One line for everything that could not be read or used.
    """

    methods: list[Method]
    problems: list[str]

    @property
    def evaluation(self) -> Evaluation | None:
        """The first one there is: distribution, horizon and tasks are the same in all."""
        return next((e for method in self.methods for e in method.evaluations), None)


def read_experiment(paths: Sequence[Path]) -> Experiment:
    """Read every run folder, one with ``evaluation.json`` or ``metrics.jsonl``, at or below the paths.

    What is damaged, or cannot be compared with the first method's evaluation, is left out and named in ``problems``.

    Raises:
        ResultsError: There is no run, or the runs belong to more than one experiment.
    """
    problems: list[str] = []
    runs = sorted((_read_run(folder, problems) for folder in _run_folders(paths)), key=_row_order)
    _refuse_mixture(runs)
    runs = _comparable(runs, problems)
    names = dict.fromkeys(run.method for run in runs)
    return Experiment([Method(name, [run for run in runs if run.method == name]) for name in names], problems)


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    for path in paths:
        if not path.is_dir():
            raise ResultsError(f"{path}: no such folder; give the folder of an experiment, runs/<name>")
    files = (file for path in paths for name in ("evaluation.json", "metrics.jsonl") for file in path.rglob(name))
    folders = {file.parent.resolve(): file.parent for file in files if file.parent.parent.name not in NOT_ACTING}
    if not folders:
        raise ResultsError(f"{' '.join(map(str, paths))}: no run (evaluation.json, metrics.jsonl) here; train first")
    return sorted(folders.values())


def _row_order(run: Run) -> tuple[int, int, str, int, str]:
    """MBML, ablations by name, references; seeds by number."""
    reference = REFERENCES.index(run.method) if run.method in REFERENCES else -1
    return (reference, run.method != "mbml", run.method, len(run.folder.name), run.folder.name)


def _read_run(folder: Path, problems: list[str]) -> Run:
    evaluation, metrics, trajectories = None, Metrics(), {}
    try:
        if (file := folder / "metrics.jsonl").exists():
            metrics = Metrics.load(file)
            problems += metrics.problems
        if (file := folder / "evaluation.json").exists():
            evaluation = Evaluation.load(file)
        if evaluation and (file := folder / "trajectories.npz").exists():
            trajectories = load_trajectories(file, evaluation)
    except ResultsError as error:
        problems.append(str(error))
    return Run(folder, evaluation, metrics, trajectories)


def _refuse_mixture(runs: Sequence[Run]) -> None:
    distributions = sorted({run.evaluation.distribution for run in runs if run.evaluation})
    if len(distributions) > 1:
        raise ResultsError(f"runs of {', '.join(distributions)} together; report one experiment at a time")
    seen: dict[tuple[str, str], Path] = {}
    for run in runs:
        seed = f"seed-{run.evaluation.seed}" if run.evaluation else run.folder.resolve().name
        other = seen.setdefault((run.method, seed), run.folder)
        if other != run.folder:
            raise ResultsError(
                f"{other} and {run.folder} are both {seed} of {run.method}; report one experiment at a time"
            )


def _comparable(runs: Sequence[Run], problems: list[str]) -> list[Run]:
    """The runs, the evaluations left out that measured something else than the first of the experiment did."""
    first = next((run.evaluation for run in runs if run.evaluation), None)
    kept: list[Run] = []
    for run in runs:
        difference = _difference(run, first) if first else None
        if difference:
            problems.append(f"{run.folder / 'evaluation.json'}: {difference}; left out, evaluate again")
        kept.append(replace(run, evaluation=None, trajectories={}) if difference else run)
    return kept


def _difference(run: Run, first: Evaluation) -> str | None:
    mine = run.evaluation
    if mine is None:
        return None
    # References do not adapt: their score is the same whichever of their episodes count.
    names = ("horizon",) if run.method in REFERENCES else ("horizon", "protocol", "episodes", "uncounted")
    for name in names:
        if getattr(mine, name) != getattr(first, name):
            return f"{name} is {getattr(mine, name)}, but {getattr(first, name)} in the first evaluation"
    for split in set(mine.splits) & set(first.splits):
        if mine.splits[split].tasks != first.splits[split].tasks:
            return f"the {split} tasks are not those of the first evaluation"
    return None
