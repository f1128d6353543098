"""The page of ``mbml report``: one file without anything external, for light and dark screens of any width."""

import io
import os
import platform
from base64 import b64encode
from collections.abc import Callable, Sequence
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
from mbml_lightning.evaluation import pictures, plane
from mbml_lightning.evaluation.experiment import DESCRIPTIONS, Experiment, Method, Run

PLANAR = ("UmazeGoalM", "MazeMedium", "PointGoal", "AntGoal")
# The colours of page.html: background, text, lines.
LIGHT = ("#ffffff", "#1f242c", "#dfe3e8")
DARK = ("#15181d", "#d9dde3", "#343a43")


def page(experiment: Experiment, headline: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The report as HTML.

    Args:
        experiment: What was run.
        headline: The result in a sentence.
        header: Names of the table's columns.
        rows: Cells of the table, a row for each method of the experiment.
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
        sections="\n".join([_learning(experiment.methods), _adaptation(experiment), _origin(experiment)]),
    )


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


def _learning(methods: Sequence[Method]) -> str:
    figures = [
        _figure(lambda: pictures.learning_curves(methods, "test"), "Unseen tasks while training.", "val/return_test"),
        _figure(lambda: pictures.learning_curves(methods, "train"), "Train tasks while training.", "val/return_train"),
        _figure(lambda: pictures.losses(methods), "Losses of MBML (logarithmic).", "train/*_loss of MBML"),
    ]
    note = "Dashed: the references, BCQ and SAC each on its own train tasks. With several seeds, thin lines are seeds."
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
    family = envs.distribution(experiment.evaluation.distribution) if experiment.evaluation else None
    planar = family is not None and family.family in PLANAR
    return planar, getattr(family, "walls", None)


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
    style: Any = dict.fromkeys(["figure.facecolor", "axes.facecolor"], background)
    style |= dict.fromkeys(["text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"], ink)
    style |= dict.fromkeys(["axes.edgecolor", "grid.color"], faint)
    style |= dict.fromkeys(["xtick.major.size", "ytick.major.size", "ytick.minor.size"], 0)
    style |= dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False)
    style |= {"font.family": "DejaVu Sans", "font.size": 9.5, "axes.axisbelow": True}
    with rc_context(style):
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
    return facts | _flat({k: v for k, v in e.made_by.items() if k != "wall_clock"})


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
    for (name, *cells), note in zip(rows, notes, strict=True):
        first = f"<td>{escape(name)}<small>{escape(note)}</small></td>"
        html += f"</tr>\n<tr>{first}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}"
    return f"<table><tr>{html}</tr></table>"
