"""The runs of one experiment, grouped by method: what a report's table and pictures are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float64

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.evaluation import PAPER_PROTOCOL, Evaluation, file_name, load_trajectories, protocols_in
from mbml_lightning.files.log import Metrics
from mbml_lightning.files.posteriors import Means, load_posteriors
from mbml_lightning.results.methods import LABELS, NOT_ACTING, REFERENCES, place
from mbml_lightning.results.normalisation import Reference, normalised, reference
from mbml_lightning.results.statistics import Estimate, Statistic, counted_return, interval, mean

Read = TypeVar("Read")


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder ``<method>/<seed>``, as far as it can be read.

    Args:
        folder: The run folder.
        evaluation: None for a run that is not finished, or whose evaluation cannot be used.
        metrics: Empty where the run logged none.
        trajectories: Observations of every task's first trial by split, empty where none were kept.
        posteriors: Posterior means before and after training, empty where none were kept.
        protocols: Evaluations under other context protocols than the paper's, by the name of the protocol.
    """

    folder: Path
    evaluation: Evaluation | None
    metrics: Metrics
    trajectories: dict[str, Float[np.ndarray, "tasks episodes T S"]]
    posteriors: dict[str, Means] = field(default_factory=dict)
    protocols: dict[str, Evaluation] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Name of the method: the folder above the run's."""
        return self.folder.resolve().parent.name

    @property
    def seed(self) -> str:
        """Seed of the training: as the evaluation notes it, else as the folder is named."""
        name = self.folder.resolve().name
        return str(self.evaluation.seed) if self.evaluation else name.removeprefix("seed-")

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
        """Of the finished runs, under the paper's protocol."""
        return self.under(PAPER_PROTOCOL)

    def under(self, protocol: str) -> list[Evaluation]:
        """Evaluations under a context protocol."""
        found = (run.evaluation if protocol == PAPER_PROTOCOL else run.protocols.get(protocol) for run in self.runs)
        return [evaluation for evaluation in found if evaluation]

    def scores(self, split: str, protocol: str = PAPER_PROTOCOL) -> Float64[np.ndarray, "seeds tasks"] | None:
        """Counted return of every seed and task, mean over trials; None where the split was not evaluated."""
        evaluations = [e for e in self.under(protocol) if split in e.splits]
        scores = [counted_return(e.splits[split].returns, e.uncounted).mean(1) for e in evaluations]
        return np.stack(scores) if scores else None

    def estimate(self, split: str, statistic: Statistic = mean, protocol: str = PAPER_PROTOCOL) -> Estimate | None:
        """A statistic of ``scores`` with its interval."""
        scores = self.scores(split, protocol)
        return None if scores is None else interval(scores, statistic)

    def normalised(self, split: str, statistic: Statistic = mean) -> Estimate | None:
        """A statistic of the normalised ``scores`` with its interval; None where there are no references."""
        scores, between = self.scores(split), self.reference(split)
        return None if scores is None or between is None else interval(normalised(scores, between), statistic)

    def reference(self, split: str) -> Reference | None:
        """What 0 and 100 are on the evaluated tasks."""
        first = next((e for e in self.evaluations if split in e.splits), None)
        return None if first is None else reference(first.distribution, split, first.splits[split].tasks)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Methods on one task distribution: MBML, baselines and ablations in the order of ``LABELS``, references.

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
    runs = sorted((read_run(folder, problems) for folder in _run_folders(paths)), key=_row_order)
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


def _row_order(run: Run) -> tuple[tuple[int, int, str], int, str]:
    """Methods in their order, seeds by number."""
    return (place(run.method), len(run.folder.name), run.folder.name)


def read_run(folder: Path, problems: list[str]) -> Run:
    """One run folder; what is damaged is left out and named in ``problems``."""

    def read(name: str, load: Callable[[Path], Read], default: Read) -> Read:
        try:
            return load(folder / name) if (folder / name).exists() else default
        except ResultsError as error:
            problems.append(str(error))
            return default

    metrics = read("metrics.jsonl", Metrics.load, Metrics())
    problems += metrics.problems
    evaluation = read("evaluation.json", Evaluation.load, None)
    trajectories: dict[str, np.ndarray] = {}
    if evaluation:
        trajectories = read("trajectories.npz", lambda file: load_trajectories(file, evaluation), {})
    protocols = {}
    for protocol in protocols_in(folder):
        other = read(file_name("evaluation.json", protocol), Evaluation.load, None)
        if other and other.protocol != protocol:
            name = folder / file_name("evaluation.json", protocol)
            problems.append(f"{name}: protocol is {other.protocol}, not {protocol}; left out, evaluate again")
        elif other:
            protocols[protocol] = other
    return Run(folder, evaluation, metrics, trajectories, read("posteriors.npz", load_posteriors, {}), protocols)


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
    firsts: dict[str, Evaluation] = {}
    data: dict[int, str] = {}
    kept: list[Run] = []
    for run in runs:
        if run.evaluation and first:
            difference = _difference(run.method, run.evaluation, first) or _other_data(run.evaluation, data)
        else:
            difference = None
        if difference:
            problems.append(f"{run.folder / 'evaluation.json'}: {difference}; left out, evaluate again")
            run = replace(run, evaluation=None, trajectories={})
        protocols = {}
        for name, evaluation in run.protocols.items():
            same = firsts.setdefault(name, evaluation)
            difference = _difference(run.method, evaluation, same) or _other_problem(evaluation, first or same)
            if difference:
                problems.append(
                    f"{run.folder / file_name('evaluation.json', name)}: {difference}; left out, evaluate again"
                )
            else:
                protocols[name] = evaluation
        kept.append(replace(run, protocols=protocols))
    return kept


def _other_data(evaluation: Evaluation, data: dict[int, str]) -> str | None:
    """What sets a method apart from the others of its seed; ``data`` holds those of the first ones."""
    mine = evaluation.made_of.get("data")
    if mine is not None and data.setdefault(evaluation.seed, mine) != mine:
        return f"was trained on other data (SHA-256 {mine[:12]}) than other methods ({data[evaluation.seed][:12]})"
    return None


def _difference(method: str, mine: Evaluation, first: Evaluation) -> str | None:
    # References do not adapt: their score is the same whichever of their episodes count.
    for name in () if method in REFERENCES else ("protocol", "episodes", "uncounted"):
        if getattr(mine, name) != getattr(first, name):
            return f"{name} is {getattr(mine, name)}, but {getattr(first, name)} in the first evaluation"
    return _other_problem(mine, first)


def _other_problem(mine: Evaluation, first: Evaluation) -> str | None:
    """What sets two evaluations apart whatever their protocols: the environment, its horizon or its tasks."""
    for name in ("distribution", "horizon"):
        if getattr(mine, name) != getattr(first, name):
            return f"{name} is {getattr(mine, name)}, but {getattr(first, name)} in the first evaluation"
    for split in set(mine.splits) & set(first.splits):
        if mine.splits[split].tasks != first.splits[split].tasks:
            return f"the {split} tasks are not those of the first evaluation"
    return None
