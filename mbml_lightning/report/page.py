"""The page of ``mbml report``: one file without anything external, for light and dark screens of any width."""

import io
import os
import platform
from base64 import b64encode
from collections.abc import Callable, Mapping, Sequence
from html import escape
from importlib import resources
from math import isnan
from string import Template
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context
from matplotlib.figure import Figure

from mbml_lightning import envs
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.report import curves as pictures
from mbml_lightning.report import paths as plane
from mbml_lightning.report import posteriors as embedding
from mbml_lightning.report.style import DARK, LIGHT, theme
from mbml_lightning.report.tables import REWARD_METRICS, Statistics, cells, columns, protocol_rows, protocols_of
from mbml_lightning.results.methods import DESCRIPTIONS
from mbml_lightning.results.runs import Experiment, Method, Run

SPLITS = {"test": "Unseen tasks", "ood": "Tasks out of distribution"}


def page(
    experiment: Experiment,
    headline: str,
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    statistics: Sequence[Statistics],
) -> str:
    """The report as HTML.

    Args:
        experiment: What was run.
        headline: The result in a sentence.
        header: Names of the table's columns.
        rows: Cells of the table, a row for each method of the experiment.
        statistics: All statistics, a row for each method evaluated on unseen tasks.
    """
    evaluation = experiment.evaluation
    title = f"MBML on {evaluation.distribution}" if evaluation else "MBML: not evaluated yet"
    template = Template(resources.files(__package__).joinpath("page.html").read_text(encoding="utf-8"))
    descriptions = [DESCRIPTIONS.get(method.name, "") for method in experiment.methods]
    return template.substitute(
        title=escape(title),
        headline=escape(headline),
        problems=_list("problems", experiment.problems),
        table=_table(header, rows, descriptions),
        meaning=escape(_meaning(experiment)),
        sections="\n".join(_sections(experiment, statistics)),
    )


def _sections(experiment: Experiment, statistics: Sequence[Statistics]) -> list[str]:
    methods = experiment.methods
    return [
        _statistics(methods[0], statistics),
        _learning(methods),
        _adaptation(experiment),
        _contexts(methods),
        _rewards(methods),
        _origin(experiment),
    ]


def duration(seconds: float | None) -> str:
    """Seconds in the unit that reads best."""
    if seconds is None:
        return "-"
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def _meaning(experiment: Experiment) -> str:
    evaluation = experiment.evaluation
    if evaluation is None:
        return ""
    counted = f"episodes {evaluation.uncounted + 1} to {evaluation.episodes} of {evaluation.trials} trials a task"
    text = f"Mean return of {counted}, the first episode acted from the prior, and its 95% bootstrap interval. "
    between = next((r for method in experiment.methods if (r := method.reference("test"))), None)
    if between:
        text += f"Normalised: on unseen tasks, 0 is random and 100 SAC ({between.source}). "
    if max(len(method.evaluations) for method in experiment.methods) == 1:
        return text + "One seed: the interval says what other tasks would change, not what another training would."
    return text + "The interval covers other tasks and, where there are several seeds, other trainings."


def _statistics(first: Method, rows: Sequence[Statistics]) -> str:
    """The wide table, and a sentence for each of its columns."""
    if not rows:
        return ""
    meaning = columns(first.label)
    table = _table(["Method", *meaning], [cells(row) for row in rows], [""] * len(rows))
    note = "Returns on unseen tasks, with 95% bootstrap intervals over seeds and tasks."
    return f'<h2>Statistics</h2><p class="soft">{note}</p><div class="wide">{table}</div>{_terms(meaning)}'


def _contexts(methods: Sequence[Method]) -> str:
    """Scores under the context protocols, a table a split."""
    html, protocols = "", protocols_of(methods)
    for split, name in SPLITS.items():
        if rows := protocol_rows(methods, split):
            table = _table([name, *protocols], rows, [""] * len(rows))
            html += f'<div class="wide">{table}</div>'
    if not html:
        return ""
    note = "How the task becomes known; mean return of the counted episodes and its 95% interval."
    return f'<h2>Context protocols</h2><p class="soft">{note}</p>{html}{_terms(protocols)}'


def _rewards(methods: Sequence[Method]) -> str:
    """Whether encoders read rewards: the sensitivity, and posteriors before and after training."""
    meaning = (
        "Rewards of a context are swapped for another task's; states and actions stay. Reward sensitivity: how far the "
        "posterior moves, relative to how far two tasks' posteriors are apart. Rewards followed: how often it comes "
        "nearer to the task of the rewards than to that of the states; 0: states decide, 1: rewards do. "
        "Below, posterior means of the first seed in the plane of their two principal components. A colour is the "
        "task whose rewards a context has: dots are the task's own contexts, crosses those of another task's states "
        "and actions with these rewards."
    )
    captions = {"reward_sensitivity": "Reward sensitivity while training.", "rewards_followed": "Rewards followed."}
    figures = [
        _figure(lambda metric=metric: pictures.rewards_read(methods, metric), captions[metric], f"val/{metric}")  # type: ignore[misc]
        for metric in REWARD_METRICS
    ]
    kept = [method for method in methods if any(run.posteriors for run in method.runs)]
    for method in kept:
        figures.append(_figure(lambda method=method: embedding.posteriors(method), f"{method.label}.", ""))  # type: ignore[misc]
    if not kept:
        figures.append(_figure(lambda: None, "Posteriors before and after training.", "posteriors.npz"))
    return f'<h2>Rewards in the posterior</h2><p class="soft">{meaning}</p><div class="grid">{"".join(figures)}</div>'


def _terms(meaning: Mapping[str, str]) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(sentence)}</dd>" for name, sentence in meaning.items())
    return f'<dl class="soft">{items}</dl>'


def _learning(methods: Sequence[Method]) -> str:
    figures = [
        _figure(lambda: pictures.learning_curves(methods, "test"), "Unseen tasks while training.", "val/return_test"),
        _figure(lambda: pictures.learning_curves(methods, "train"), "Train tasks while training.", "val/return_train"),
        _figure(lambda: pictures.losses(methods), "Losses of MBML (logarithmic).", "train/*_loss of MBML"),
    ]
    note = (
        "Dashed: the references, BCQ and SAC each on its own train tasks. With several seeds, thin lines are seeds, "
        "unless there are more than four methods."
    )
    return f'<h2>Learning</h2><p class="soft">{note}</p><div class="grid">{"".join(figures)}</div>'


def _adaptation(experiment: Experiment) -> str:
    methods, missing = experiment.methods, "an evaluation of MBML or of an ablation"
    figures = [
        _figure(lambda: pictures.episodes(methods), "Unseen tasks, episode by episode, with 95% intervals.", missing),
        _figure(lambda: pictures.per_task(methods, "test"), "Each unseen task.", missing),
        _figure(lambda: pictures.per_task(methods, "train"), "Each train task.", missing),
    ]
    html = f'<h2>Adaptation to a task</h2><div class="grid">{"".join(figures)}</div>'
    planar, walls = _geometry(experiment)
    if not planar:
        return html
    note = (
        "The policy is not told the goal: it acts the first episode for a task identity drawn from the prior, "
        "and infers the task from what it saw. The numbers are the returns of the episodes shown."
    )
    drawn = _figure(lambda: plane.paths(methods, walls), "First trial on unseen tasks.", "trajectories.npz")
    return f'{html}<h2>What the policy does</h2><p class="soft">{note}</p><div class="wide">{drawn}</div>'


def _geometry(experiment: Experiment) -> tuple[bool, Float[np.ndarray, "W 4"] | None]:
    """Whether the first two observations are a position in the plane, and the walls in it."""
    try:
        family = envs.recorded_distribution(experiment.evaluation.distribution) if experiment.evaluation else None
    except ConfigurationError:  # it lives in a user's module, which nothing here has imported
        family = None
    return family is not None and family.planar, getattr(family, "walls", None)


def _figure(draw: Callable[[], Figure | None], caption: str, source: str) -> str:
    """A picture in both themes, of which the browser takes one; or a line that says what is missing."""
    light, dark = _png(draw, *LIGHT), _png(draw, *DARK)
    if not light:
        return f"<figure><figcaption>{escape(caption)} Not drawn: there is no {escape(source)}.</figcaption></figure>"
    return (
        f'<figure><picture><source media="(prefers-color-scheme: dark)" srcset="{dark}">'
        f'<img src="{light}" alt="{escape(caption)}"></picture><figcaption>{escape(caption)}</figcaption></figure>'
    )


def _png(draw: Callable[[], Figure | None], background: str, ink: str, faint: str) -> str | None:
    with rc_context(theme(background, ink, faint)):
        if (figure := draw()) is None:
            return None
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=200)
    return f"data:image/png;base64,{b64encode(file.getvalue()).decode()}"


def _origin(experiment: Experiment) -> str:
    """How the figures were made: what all runs share once, the rest by run."""
    runs = [run for method in experiment.methods for run in method.runs]
    facts = {f"{run.method}/{run.folder.resolve().name}": _facts(run) for run in runs}
    evaluated = [fact for fact, run in zip(facts.values(), runs, strict=True) if run.evaluation]
    shared = {k: v for k, v in (evaluated or [{}])[0].items() if all(fact.get(k) == v for fact in evaluated)}
    machine = f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, {platform.platform()}"
    html = _definitions(shared | {"this report was made on": machine})
    for name, fact in facts.items():
        own = {k: v for k, v in fact.items() if k not in shared}
        html += f"<details><summary>{escape(name)}</summary>{_definitions(own)}</details>"
    return f"<h2>How these figures were made</h2>{html}"


def _facts(run: Run) -> dict[str, str]:
    if run.evaluation is None:
        return {"state": "no usable evaluation.json"}
    e = run.evaluation
    facts = {name: str(getattr(e, name)) for name in ("env_id", "protocol", "horizon", "seed", "trials", "episodes")}
    facts |= {"updates": f"{e.step:,}"}
    phases = {"training": run.training_seconds} | e.wall_clock
    facts |= {f"wall-clock of {phase}": duration(None if isnan(s) else s) for phase, s in phases.items()}
    hashes = _flat({k: v for k, v in e.made_of.items() if k != "config"}, "SHA-256 of ")
    return facts | hashes | _flat({k: v for k, v in e.made_by.items() if k != "wall_clock"})


def _flat(content: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested names joined by dots, values as text."""
    flat: dict[str, str] = {}
    for name, value in content.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": str(value)}
    return flat


def _definitions(facts: dict[str, str]) -> str:
    rows = "".join(f"<tr><td>{escape(name)}</td><td>{escape(value)}</td></tr>" for name, value in facts.items())
    return f'<table class="facts">{rows}</table>'


def _list(kind: str, lines: Sequence[str]) -> str:
    return f'<ul class="{kind}">{"".join(f"<li>{escape(line)}</li>" for line in lines)}</ul>' if lines else ""


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], notes: Sequence[str]) -> str:
    html = "".join(f"<th>{escape(name)}</th>" for name in header)
    for (name, *values), note in zip(rows, notes, strict=True):
        first = f"<td>{escape(name)}{f'<small>{escape(note)}</small>' if note else ''}</td>"
        html += f"</tr>\n<tr>{first}{''.join(f'<td>{escape(cell)}</td>' for cell in values)}"
    return f"<table><tr>{html}</tr></table>"
