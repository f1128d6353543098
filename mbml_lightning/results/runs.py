"""The runs of an experiment, read from their folders and grouped by method."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Float64

from mbml_lightning.errors import ResultsError
from mbml_lightning.files.configuration import difference
from mbml_lightning.files.evaluation import Evaluation, load_trajectories
from mbml_lightning.files.log import Curve, Metrics
from mbml_lightning.files.posteriors import Means, load_posteriors
from mbml_lightning.results.methods import Method, card, place
from mbml_lightning.results.normalisation import Reference, normalised, reference
from mbml_lightning.results.statistics import Estimate, Statistic, counted_return, interval, mean

Read = TypeVar("Read")
PAPER = "evaluation.json"
"""The evaluation under the paper's protocol; under another one it is ``evaluation-<protocol>.json``."""


@dataclass(frozen=True, eq=False)
class Run:
    """One run folder ``<method>/<seed>``, as far as it can be read.

    Args:
        folder: The run folder.
        evaluations: Usable evaluations by the name of their file; none of a run that is not finished.
        metrics: Empty where the run logged none.
        trajectories: Observations of every task's first trial by split, empty where none were kept.
        posteriors: Posterior means before and after training, empty where none were kept.
    """

    folder: Path
    evaluations: dict[str, Evaluation]
    metrics: Metrics
    trajectories: dict[str, Float[np.ndarray, "tasks episodes T S"]]
    posteriors: dict[str, Means] = field(default_factory=dict)

    @property
    def evaluation(self) -> Evaluation | None:
        """Evaluation under the paper's protocol."""
        return self.evaluations.get(PAPER)

    @property
    def method(self) -> str:
        """Name of the method: the folder above the run's."""
        return self.folder.resolve().parent.name

    @property
    def seed(self) -> str:
        """Seed of the training: as the evaluation notes it, else as the folder is named."""
        return str(self.evaluation.seed) if self.evaluation else self.folder.resolve().name.removeprefix("seed-")

    @property
    def training_seconds(self) -> float:
        """Wall-clock of the training: as the evaluation notes it, else as the log tells, else NaN."""
        noted = self.evaluation.wall_clock if self.evaluation else {}
        return noted.get("training", self.metrics.seconds)


@dataclass(frozen=True, eq=False)
class MethodRuns:
    """All runs of one method.

    Args:
        name: Name of the method.
        runs: Its runs, by seed.
    """

    name: str
    runs: list[Run]

    @property
    def card(self) -> Method:
        """Card of the method."""
        return card(self.name)

    @property
    def label(self) -> str:
        """Name for a reader."""
        return self.card.label

    @property
    def is_reference(self) -> bool:
        """True of a yardstick that adapts to no task."""
        return self.card.is_reference

    @property
    def evaluations(self) -> list[Evaluation]:
        """Evaluations of the finished runs under the paper's protocol."""
        return [run.evaluation for run in self.runs if run.evaluation]

    def under(self, protocol: str) -> list[Evaluation]:
        """Select the evaluations under a context protocol."""
        return [e for run in self.runs for e in run.evaluations.values() if e.protocol == protocol]

    def curves(self, metric: str) -> list[Curve]:
        """Select the curves of a logged metric, one for each run that logged it."""
        return [run.metrics.curves[metric] for run in self.runs if metric in run.metrics.curves]

    def scores(self, split: str, protocol: str | None = None) -> Float64[np.ndarray, "seeds tasks"] | None:
        """Average the counted returns of every seed and task over trials; None where the split was not evaluated."""
        evaluations = self.evaluations if protocol is None else self.under(protocol)
        found = [counted_return(e.splits[split].returns, e.uncounted).mean(1) for e in evaluations if split in e.splits]
        return np.stack(found) if found else None

    def estimate(self, split: str, statistic: Statistic = mean, protocol: str | None = None) -> Estimate | None:
        """Compute a statistic of the scores with its interval."""
        scores = self.scores(split, protocol)
        return None if scores is None else interval(scores, statistic)

    def normalised(self, split: str, statistic: Statistic = mean) -> Estimate | None:
        """Compute a statistic of the normalised scores with its interval; None where there are no references."""
        scores, between = self.scores(split), self.reference(split)
        return None if scores is None or between is None else interval(normalised(scores, between), statistic)

    def reference(self, split: str) -> Reference | None:
        """Look up what 0 and 100 are on the evaluated tasks."""
        first = next((e for e in self.evaluations if split in e.splits), None)
        return None if first is None else reference(first.distribution, split, first.splits[split].tasks)


@dataclass(frozen=True, eq=False)
class Experiment:
    """Methods on one task distribution, in the order of their cards.

    Args:
        methods: At least one.
        problems: One line for everything that could not be read or used.
    """

    methods: list[MethodRuns]
    problems: list[str]

    @property
    def evaluation(self) -> Evaluation | None:
        """First evaluation there is: distribution, horizon and tasks are the same in all."""
        return next((e for method in self.methods for e in method.evaluations), None)


def read_experiment(paths: Sequence[Path]) -> Experiment:
    """Read every run folder, one with ``evaluation.json`` or ``metrics.jsonl``, at or below the paths.

    What is damaged, or cannot be compared with the first method's evaluation, is left out and named in ``problems``.

    Raises:
        ResultsError: There is no run, or the runs belong to more than one experiment.
    """
    problems: list[str] = []
    runs = [read_run(folder, problems) for folder in _run_folders(paths)]
    # Seeds by number.
    runs.sort(key=lambda run: (place(run.method), len(run.folder.name), run.folder.name))
    _refuse_mixture(runs)
    runs = _comparable(runs, problems)
    problems += _remarks(runs)
    names = dict.fromkeys(run.method for run in runs)
    return Experiment([MethodRuns(name, [run for run in runs if run.method == name]) for name in names], problems)


def _run_folders(paths: Sequence[Path]) -> list[Path]:
    """Find the run folders of methods that act."""
    for path in paths:
        if not path.is_dir():
            raise ResultsError(f"{path}: no such folder; give the folder of an experiment, runs/<name>")
    files = (file for path in paths for name in (PAPER, "metrics.jsonl") for file in path.rglob(name))
    folders = {file.parent.resolve(): file.parent for file in files if card(file.parent.parent.name).kind != "ensemble"}
    if not folders:
        raise ResultsError(f"{' '.join(map(str, paths))}: no run (evaluation.json, metrics.jsonl) here; train first")
    return sorted(folders.values())


def read_run(folder: Path, problems: list[str]) -> Run:
    """Read one run folder; what is damaged is left out and named in ``problems``."""

    def read(name: str, load: Callable[[Path], Read], default: Read) -> Read:
        try:
            return load(folder / name) if (folder / name).exists() else default
        except ResultsError as error:
            problems.append(str(error))
            return default

    metrics = read("metrics.jsonl", Metrics.load, Metrics())
    problems += metrics.problems
    trajectories: dict[str, np.ndarray] = {}
    evaluations = {}
    if paper := read(PAPER, Evaluation.load, None):
        evaluations[PAPER] = paper
        trajectories = read("trajectories.npz", lambda file: load_trajectories(file, paper), {})
    for file in sorted(folder.glob("evaluation-*.json")):
        protocol, other = file.stem.removeprefix("evaluation-"), read(file.name, Evaluation.load, None)
        if other and other.protocol != protocol:
            problems.append(f"{file}: protocol is {other.protocol}, not {protocol}; left out, evaluate again")
        elif other:
            evaluations[file.name] = other
    return Run(folder, evaluations, metrics, trajectories, read("posteriors.npz", load_posteriors, {}))


def _refuse_mixture(runs: Sequence[Run]) -> None:
    """Refuse runs of several distributions, and two runs of the same method and seed."""
    distributions = sorted({run.evaluation.distribution for run in runs if run.evaluation})
    if len(distributions) > 1:
        raise ResultsError(f"runs of {', '.join(distributions)} together; report one experiment at a time")
    seen: dict[tuple[str, str], Path] = {}
    for run in runs:
        other = seen.setdefault((run.method, run.seed), run.folder)
        if other != run.folder:
            both = f"{other} and {run.folder} are both seed-{run.seed} of {run.method}"
            raise ResultsError(f"{both}; report one experiment at a time")


def _comparable(runs: Sequence[Run], problems: list[str]) -> list[Run]:
    """Leave out evaluations that measured something else than the first of their name did, named in ``problems``."""
    firsts = {name: evaluation for run in reversed(runs) for name, evaluation in run.evaluations.items()}
    data: dict[int, str] = {}  # by seed, of the first usable run
    kept = []
    for run in runs:
        faults = {name: _difference(run, name, firsts) for name in run.evaluations}
        paper = run.evaluation
        if paper and not faults[PAPER] and (mine := paper.made_of.get("data")):
            theirs = data.setdefault(paper.seed, mine)
            if mine != theirs:
                also = f"(SHA-256 {mine[:12]}) than other methods ({theirs[:12]})"
                faults[PAPER] = f"was trained on other data {also}"
        problems += [f"{run.folder / n}: {fault}; left out, evaluate again" for n, fault in faults.items() if fault]
        usable = {name: evaluation for name, evaluation in run.evaluations.items() if not faults[name]}
        kept.append(replace(run, evaluations=usable, trajectories=run.trajectories if PAPER in usable else {}))
    return kept


def _remarks(runs: Sequence[Run]) -> list[str]:
    """Name runs that are compared although they are unfinished, or unlike the other seeds of their method."""
    found = []
    for method in dict.fromkeys(run.method for run in runs):
        evaluated = [(run, run.evaluation) for run in runs if run.method == method and run.evaluation]
        first_run, first = evaluated[0] if evaluated else (None, None)
        for run, evaluation in evaluated:
            asked = evaluation.made_of.get("config") or {}
            steps, trials = (asked.get(s, {}).get(k) for s, k in (("trainer", "max_steps"), ("evaluation", "trials")))
            if isinstance(steps, int) and evaluation.step < steps and card(method).is_trained:
                found.append(f"{run.folder}: evaluated after {evaluation.step} of {steps} updates")
            elif isinstance(trials, int) and evaluation.trials < trials:
                found.append(f"{run.folder}: evaluated in {evaluation.trials} of {trials} trials a task")
            if first_run and first and run is not first_run and (odd := _unlike(first, evaluation)):
                found.append(f"{run.folder}: {odd}; {first_run.folder.name} and this are averaged all the same")
    return found


def _unlike(first: Evaluation, other: Evaluation) -> str | None:
    """Say in what two seeds of a method differ but for the seed."""
    if first.trials != other.trials:
        return f"has {other.trials} trials a task, {first.trials} in seed-{first.seed}"
    before, now = first.made_of.get("config"), other.made_of.get("config")
    odd = difference(before, now, seeds=False) if before and now else None
    return None if odd is None else f"has another configuration ({odd})"


def _difference(run: Run, name: str, firsts: dict[str, Evaluation]) -> str | None:
    """Say what sets an evaluation apart from the first one of its name, or its problem from the first of all."""
    mine, problem = run.evaluations[name], ("distribution", "horizon")
    # References do not adapt: their score is the same whichever of their episodes count.
    counting = () if card(run.method).is_reference else ("protocol", "episodes", "uncounted")
    for first, settings in ((firsts[name], (*counting, *problem)), (firsts.get(PAPER, firsts[name]), problem)):
        for setting in settings:
            here, there = getattr(mine, setting), getattr(first, setting)
            if here != there:
                return f"{setting} is {here}, but {there} in the first evaluation"
        for split in sorted(set(mine.splits) & set(first.splits)):
            if mine.splits[split].tasks != first.splits[split].tasks:
                return f"the {split} tasks are not those of the first evaluation"
    return None
