"""The page of ``mbml report``: one file without anything external, for light and dark screens of any width."""

import io
import os
import platform
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from math import isnan
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from mbml_lightning.errors import ConfigurationError
from mbml_lightning.report import curves
from mbml_lightning.report.paths import paths
from mbml_lightning.report.posteriors import posteriors
from mbml_lightning.report.style import DARK, LIGHT, theme
from mbml_lightning.report.tables import HEADER, duration, statistics_cells, statistics_columns
from mbml_lightning.results.comparison import Statistics
from mbml_lightning.results.runs import Experiment, MethodRuns, Run
from mbml_lightning.results.statistics import interval_text

SPLITS = {"test": "Unseen tasks", "ood": "Tasks out of distribution"}


class Picture(NamedTuple):
    """A picture in both themes, of which the browser takes one, as PNG in the address.

    Attributes:
        caption: Line below it.
        source: Name of what it is drawn from, for the line that says that this is missing.
        light: On white, None if there is nothing to draw.
        dark: On black.
    """

    caption: str
    source: str
    light: str | None = None
    dark: str | None = None


def page(experiment: Experiment, headline: str, rows: Sequence[Sequence[str]], statistics: Sequence[Statistics]) -> str:
    """Write the report as HTML.

    Args:
        experiment: Methods and their runs.
        headline: The result in a sentence.
        rows: Cells of the table, a row for each method of the experiment.
        statistics: All statistics, a row for each method evaluated on unseen tasks.
    """
    methods = experiment.methods
    options: dict[str, Any] = dict.fromkeys(("autoescape", "trim_blocks", "lstrip_blocks"), True)
    environment = Environment(loader=PackageLoader("mbml_lightning", "report"), undefined=StrictUndefined, **options)
    return environment.get_template("page.html").render(
        evaluation=experiment.evaluation,
        headline=headline,
        problems=experiment.problems,
        header=HEADER,
        rows=rows,
        notes=[method.card.sentence for method in methods],
        scale=next((found for method in methods if (found := method.reference("test"))), None),
        seeds=max(len(method.evaluations) for method in methods),
        columns=statistics_columns(methods[0].label),
        statistics=[statistics_cells(row) for row in statistics],
        **_learning(methods),
        **_adaptation(experiment),
        **_contexts(methods),
        **_rewards(methods),
        **_origin(experiment),
    )


def _learning(methods: Sequence[MethodRuns]) -> dict[str, Any]:
    """Draw returns and losses while training, the losses of all methods but the first for whom asks for them."""
    first, *others = [method for method in methods if curves.loss_names(method)] or methods[:1]
    pictures = [
        _curve("Unseen tasks while training.", methods, "val/return_test", "mean return", "test"),
        _curve("Train tasks while training.", methods, "val/return_train", "mean return", "train"),
        _picture(f"Losses of {first.label} (logarithmic).", f"train/*_loss of {first.label}", curves.losses, [first]),
    ]
    rest = [_picture("Losses (logarithmic).", "", curves.losses, others)] if others else []
    return {"learning": pictures, "losses": rest}


def _adaptation(experiment: Experiment) -> dict[str, Any]:
    """Draw returns by episode and by task, and paths where observations begin with a place in the plane."""
    from mbml_lightning import envs  # brings Gymnasium and MuJoCo

    methods, missing = experiment.methods, "an evaluation of MBML or of an ablation"
    drawn = [
        _picture("Unseen tasks, episode by episode, with 95% intervals.", missing, curves.episodes, methods),
        _picture("Each unseen task.", missing, curves.per_task, methods, "test"),
        _picture("Each train task.", missing, curves.per_task, methods, "train"),
    ]
    plane = []
    # Before an evaluation, and of a distribution in a module that nothing has imported, there is no plane.
    with suppress(ConfigurationError):
        if experiment.evaluation and (known := envs.recorded_distribution(experiment.evaluation.distribution)).planar:
            walls = getattr(known, "walls", None)
            plane = [_picture("First trial on unseen tasks.", "trajectories.npz", paths, methods, walls)]
    return {"adaptation": drawn, "paths": plane}


def _contexts(methods: Sequence[MethodRuns]) -> dict[str, Any]:
    """Collect the scores under the context protocols, a table a split: those of the package, then others."""
    from mbml_lightning.evaluation.contexts import PROTOCOLS  # brings PyTorch

    known = {protocol.name: protocol.sentence for protocol in PROTOCOLS}
    found = {e.protocol for method in methods for run in method.runs for e in run.evaluations.values()}
    sentences = known | dict.fromkeys(sorted(found - known.keys()), "a protocol that this package does not know.")
    tables: dict[str, list[list[str]]] = {}
    for split, title in SPLITS.items():
        for method in (m for m in methods if not m.is_reference):
            cells = [interval_text(method.estimate(split, protocol=name)) for name in sentences]
            if set(cells) != {"-"}:
                tables.setdefault(title, []).append([method.label, *cells])
    return {"contexts": tables, "protocols": sentences}


def _rewards(methods: Sequence[MethodRuns]) -> dict[str, Any]:
    """Draw how much encoders read rewards, and the posteriors before and after training."""
    pictures = [
        _curve("Reward sensitivity while training.", methods, "val/reward_sensitivity", "reward sensitivity"),
        _curve("Rewards followed.", methods, "val/rewards_followed", "rewards followed"),
    ]
    kept = [method for method in methods if any(run.posteriors for run in method.runs)]
    pictures += [_picture(f"{method.label}.", "", posteriors, method) for method in kept]
    if not kept:
        pictures.append(Picture("Posteriors before and after training.", "posteriors.npz"))
    return {"rewards": pictures}


def _curve(caption: str, methods: Sequence[MethodRuns], metric: str, *more: str) -> Picture:
    """Draw a logged metric of all methods in both themes."""
    return _picture(caption, metric, curves.learning_curves, methods, metric, *more)


def _picture(caption: str, source: str, draw: Callable[..., Figure | None], *of: Any) -> Picture:
    """Draw a picture of something in both themes, as the addresses of PNGs."""
    found = []
    for colours in (LIGHT, DARK):
        with rc_context(theme(*colours)):
            if (figure := draw(*of)) is None:
                return Picture(caption, source)
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=200)
        found.append(f"data:image/png;base64,{b64encode(file.getvalue()).decode()}")
    return Picture(caption, source, *found)


def _origin(experiment: Experiment) -> dict[str, Any]:
    """Tell how the figures were made: what all runs share once, the rest by run."""
    runs = [run for method in experiment.methods for run in method.runs]
    facts = {f"{run.method}/{run.folder.resolve().name}": _facts(run) for run in runs}
    evaluated = [fact for fact, run in zip(facts.values(), runs, strict=True) if run.evaluation]
    shared = {k: v for k, v in (evaluated or [{}])[0].items() if all(fact.get(k) == v for fact in evaluated)}
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}"
    own = {name: {k: v for k, v in fact.items() if k not in shared} for name, fact in facts.items()}
    return {"shared": shared | {"this report was made on": machine}, "own": own}


def _facts(run: Run) -> dict[str, str]:
    """List what is known of how a run was made."""
    if run.evaluation is None:
        return {"state": "no usable evaluation.json"}
    e = run.evaluation
    facts = {name: str(getattr(e, name)) for name in ("env_id", "protocol", "horizon", "seed", "trials", "episodes")}
    facts |= {"updates": f"{e.step:,}"}
    phases = {"training": run.training_seconds} | e.wall_clock
    facts |= {f"wall-clock of {phase}": duration(None if isnan(s) else s) for phase, s in phases.items()}
    hashes = _flat({k: v for k, v in e.made_of.items() if k != "config"}, "SHA-256 of ")
    return facts | hashes | _flat({k: v for k, v in e.made_by.items() if k != "wall_clock"})


def _flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Flatten nested names, joined by dots, with values as text."""
    flat: dict[str, str] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat
