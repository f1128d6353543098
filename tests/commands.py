"""Command lines of the phases and methods at tiny scale."""

from graphlib import TopologicalSorter
from pathlib import Path

import yaml

from mbml_lightning.results.methods import METHODS, Method, methods_for

ROOT = Path(__file__).parent.parent
TINY = ["--task", str(ROOT / "conf/task/point_goal.yaml"), "--scale", str(ROOT / "conf/scale/tiny.yaml")]
NEEDED = [*TopologicalSorter({m.name: m.needs for m in METHODS.values() if m.kind in ("ensemble", "reference")})
          .static_order()]  # fmt: skip
"""Phases that others need, and random actions, in an order in which they can run."""
PHASES = [*NEEDED, "mbml", "neither"]
"""What the fixture `experiment` holds, in an order in which it can run."""
BASELINES = [name for name, method in METHODS.items() if method.kind == "method" and name != "mbml"]
ABLATIONS = [name for name, method in METHODS.items() if "conf/ablation" in method.command]
"""Those with a file; the margins differ in a number."""
ACTING = [name for name, m in METHODS.items() if m.kind in ("method", "reference") or name in ABLATIONS]
"""Those that learn or choose actions and are trained on the train tasks."""


STANDARDISED = "--scale.standardise=true"
RECIPE = [f"--scale.sac_{word}" for word in ("copies=2", "updates_per_step=2", "actor_every=3", "layer_norm=true")]
WINDOW = "--scale.context_window=50"
AVERAGE = "--scale.ema_decay=0.9"
AS_ON_A_LAPTOP = [
    ("sac", [STANDARDISED, *RECIPE]),
    ("bcq", [STANDARDISED]),
    ("multi_task_bc", [STANDARDISED, WINDOW, AVERAGE]),
]
"""Phases with options of `conf/scale/laptop.yaml` that the tiny scale has not."""


def phases(task: dict) -> list[str]:
    """All that can run on the distribution of a task file, in an order in which they can."""
    usable = methods_for("varied" if "next_state_threshold" in task else "shared")
    return [name for name in dict.fromkeys([*PHASES, *BASELINES, *ABLATIONS]) if name in usable]


def configuration(method: Method) -> dict:
    """The first file of a method's command."""
    return yaml.safe_load((ROOT / next(word for word in method.command.split() if "conf/" in word)).read_text())


def command(phase: str, experiment: Path, *more: str) -> list[str]:
    """The command line of a phase at tiny scale."""
    words = [str(ROOT / word) if word.startswith("conf/") else word for word in METHODS[phase].command.split()]
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    return [*words, *TINY, "--experiment", str(experiment), *quiet, *more]
