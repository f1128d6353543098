"""What SAC and BCQ return on the tasks that they were trained on, beside Table 9 of the paper."""

import argparse
import csv
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float64
from matplotlib.figure import Figure

from benchmarks.measuring import Rows, publish
from mbml_lightning.data.budget import steps_of
from mbml_lightning.errors import MBMLError
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.log import Curve, Metrics
from mbml_lightning.results.normalisation import reference
from mbml_lightning.results.statistics import counted_return

TABLE_9 = {
    "HalfCheetahVel": ((-121.3, 35.3), (-142.7, 29.9)),
    "AntDir": ((920.9, 85.4), (956.6, 83.8)),
    "AntGoal": ((-99.6, 33.9), (-127.8, 36.7)),
    "WalkerParam": ((671.1, 106.4), (692.6, 97.0)),
    "HumanoidDirM": ((2116.1, 388.6), (2190.9, 370.9)),
    "UmazeGoalM": ((252.8, 6.5), (258.3, 9.1)),
}
"""Mean and deviation over tasks of SAC and of BCQ."""


class Phase(NamedTuple):
    """A finished run of SAC or BCQ.

    Attributes:
        evaluation: On its own tasks.
        returns: Mean return on each.
        minutes: Of training.
        curve: Returns of the episodes in which SAC collected, against steps a task; none of BCQ.
    """

    evaluation: Evaluation
    returns: Float64[np.ndarray, " tasks"]
    minutes: float
    curve: Curve | None

    @property
    def threads(self) -> str:
        """Threads that it had."""
        return str(self.evaluation.made_by["hardware"]).split()[-2]

    def described(self) -> str:
        """Mean and deviation over tasks."""
        return spread(float(self.returns.mean()), float(self.returns.std()))


def spread(mean: float, deviation: float) -> str:
    """Write a mean with its deviation."""
    return f"{mean:.1f} +- {deviation:.1f}"


def read(run: Path) -> Phase:
    """Read a run from its folder."""
    evaluation = Evaluation.load(run / "evaluation.json")
    returns = counted_return(evaluation.splits["train"].returns, evaluation.uncounted).mean(1)
    metrics = Metrics.load(run / "metrics.jsonl")
    curve = metrics.curves.get("train/return")
    if curve is not None:
        config = evaluation.made_of["config"]
        model, copies = config["model"]["init_args"], config["data"]["init_args"]["copies"]
        steps = [steps_of(int(n), model["warmup"], copies, model["updates_per_step"]) for n in curve.steps]
        curve = Curve(np.array(steps), curve.values)
    return Phase(evaluation, returns, metrics.seconds / 60, curve)


def measured(experiments: Sequence[Path]) -> Iterator[tuple[str, str, Phase, Phase]]:
    """Read SAC and BCQ of every experiment and seed that has both: the experiment's distribution, the seed, the two."""
    for experiment in experiments:
        for run in sorted(experiment.glob("sac/seed-*")):
            bcq = experiment / "bcq" / run.name
            if (run / "evaluation.json").exists() and (bcq / "evaluation.json").exists():
                phases = read(run), read(bcq)
                yield phases[0].evaluation.distribution, run.name.removeprefix("seed-"), *phases


def summary(name: str, seed: str, sac: Phase, bcq: Phase) -> dict[str, object]:
    """A row of the table; 100 % of SAC is SAC's return here, 0 % that of random actions."""
    first = sac.evaluation.splits["train"]
    known = reference(name, "train", first.tasks)
    random = float(known.random.mean()) if known else float("nan")
    share = 100 * (bcq.returns.mean() - random) / (sac.returns.mean() - random)
    table = TABLE_9.get(name.partition("+")[0])
    return {
        "distribution": name,
        "seed": seed,
        "tasks": len(first.tasks),
        "steps a task": sac.evaluation.made_of["config"]["data"]["init_args"]["capacity"],
        "SAC": sac.described(),
        "SAC, Table 9": spread(*table[0]) if table else "",
        "BCQ": bcq.described(),
        "BCQ, Table 9": spread(*table[1]) if table else "",
        "BCQ, % of SAC": f"{share:.0f}",
        "random": round(random, 1),
        "minutes": f"{sac.minutes:.1f} + {bcq.minutes:.1f}",
        "threads": f"{sac.threads} + {bcq.threads}",
    }


def by_task(found: Sequence[tuple[str, str, Phase, Phase]]) -> Rows:
    """A row a task."""
    rows = []
    for name, seed, sac, bcq in found:
        for task, (ours, theirs) in enumerate(zip(sac.returns, bcq.returns, strict=True)):
            pair = {"sac": round(float(ours), 1), "bcq": round(float(theirs), 1)}
            rows.append({"distribution": name, "seed": seed, "task": task, **pair})
    return rows


def curves(found: Sequence[tuple[str, str, Phase, Phase]]) -> Figure:
    """Draw the returns while SAC collected, its last return, BCQ's, and the paper's SAC."""
    names = list(dict.fromkeys(name for name, *_ in found))
    columns = min(3, len(names))
    rows = -(-len(names) // columns)
    figure = Figure(figsize=(3.4 * columns, 2.8 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for name, axes in zip(names, panels, strict=False):
        for _, seed, sac, bcq in (one for one in found if one[0] == name):
            first = seed == min(s for n, s, *_ in found if n == name)
            if sac.curve is not None:
                label = "SAC, while it collects" if first else None
                axes.plot(sac.curve.steps / 1000, sac.curve.values, color="#2f7fd0", lw=1, label=label)
            end = sac.evaluation.made_of["config"]["data"]["init_args"]["capacity"] / 1000
            for phase, colour, word in ((sac, "#2f7fd0", "SAC, mean action"), (bcq, "#d1495b", "BCQ")):
                axes.plot(end, phase.returns.mean(), "o", color=colour, label=word if first else None)
        if table := TABLE_9.get(name.partition("+")[0]):
            axes.axhline(table[0][0], color="#7d8794", ls=":", label="SAC, Table 9")
        axes.set(title=name.partition("+")[0], xlabel="thousand steps a task", ylabel="return")
        axes.grid(axis="y", color="#dfe3e8")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:  # what is left of the last row
        axes.remove()
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def write(path: Path, rows: Rows) -> None:
    """Write rows as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def main(words: Sequence[str]) -> None:
    """Read the experiments and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.sac_and_bcq", description=__doc__)
    parser.add_argument("experiments", nargs="+", type=Path, help="folders with finished runs of SAC and BCQ")
    parser.add_argument("--output", type=Path, help="folder for the report, the curves and a row a task")
    options = parser.parse_args(words)
    try:
        found = list(measured(options.experiments))
    except MBMLError as error:
        raise SystemExit(str(error)) from None
    if not found:
        raise SystemExit(f"{' '.join(words)}: no experiment with finished runs of SAC and BCQ")
    publish("sac_and_bcq", {"Returns": [summary(*one) for one in found]}, words, options.output)
    if options.output:
        write(options.output / "sac_and_bcq-tasks.csv", by_task(found))
        curves(found).savefig(options.output / "curves.png", dpi=110)


if __name__ == "__main__":
    main(sys.argv[1:])
