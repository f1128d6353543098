"""Kills training at random moments, again and again, and compares where it ends with a run that was left alone.

Moments are of three kinds. `time`: after a random part of the run's wall clock. `write`: just before a random one of
the calls that open a file for writing, make, rename or remove one in the run's folder. `half`: when a random part of a
random file's bytes is on the disk; a limit on the size of files stops the kernel at exactly that byte.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.killing import KINDS, Ending, Moment, start
from benchmarks.learners import CONF
from benchmarks.measuring import publish, threads
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.store import read_store
from mbml_lightning.results.methods import METHODS

NEEDED = ["sac", *(name for name, method in METHODS.items() if method.needs == ("sac",) and method.kind != "method")]
"""Phases that provide what others read, in an order in which they can run."""
PHASES = [*NEEDED, *(name for name, method in METHODS.items() if method.kind == "method")]
SHOWN = 40
"""Faults that are printed."""
ARCHIVES = ("trajectories.npz", "posteriors.npz")


def command(phase: str, experiment: Path, run: Path, updates: int = 100) -> list[str]:
    """The command line of a phase at tiny scale: short blocks, many checkpoints, some evaluations."""
    words = METHODS[phase].command.replace("conf/", f"{CONF}/").split()
    words += ["--task", f"{CONF}/task/point_goal.yaml", "--scale", f"{CONF}/scale/tiny.yaml"]
    words += ["--experiment", f"{experiment}", "--run", f"{run}"]
    words += ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--ckpt_path=last"]
    words += ["--model.updates_per_block=5", "--checkpoint.every_n_updates=10", "--evaluation.trials=1"]
    words += ["--scale.warmup=100", f"--scale.interactions={100 + updates}"]
    return [*words, f"--trainer.max_steps={updates}", "--trainer.val_check_interval=4"]


def prepare(experiment: Path) -> None:
    """The phases that others need."""
    for phase in NEEDED:
        run = experiment / phase / "seed-0"
        if code := start(command(phase, experiment, run), run, Moment()).code:
            raise RuntimeError(f"{run}: ended with {code} although nothing killed it")


def faults(run: Path) -> list[str]:
    """What of a run's results is there but cannot be read."""
    found = []
    readers: dict[str, Callable[[Path], object]] = {
        "last.ckpt": Checkpoint.read,
        "data": read_store,
        "evaluation.json": Evaluation.load,
        **dict.fromkeys(ARCHIVES, arrays),
    }
    for name, read in readers.items():
        try:
            if (run / name).exists():
                read(run / name)
        except Exception as error:  # whatever a damaged file raises
            found.append(f"{name}: {error}")
    return found


def metrics(run: Path) -> list[dict[str, float]]:
    """All whole lines of the log; a kill may have cut one."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


def arrays(path: Path) -> dict[str, np.ndarray]:
    """All of an ``.npz``."""
    with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
        return dict(archive)


def results(run: Path) -> dict[str, Any]:
    """What two runs are compared by: everything but clocks and command lines; of what was logged twice, the last."""
    checkpoint = Checkpoint.read(run / "last.ckpt").content
    kept = ("global_step", "state_dict", "optimizer_states")
    found: dict[str, Any] = {key: checkpoint[key] for key in checkpoint if key in kept or key.endswith("DataModule")}
    if (run / "evaluation.json").exists():
        evaluation = Evaluation.load(run / "evaluation.json")
        found["evaluation"] = {name: split.returns for name, split in evaluation.splits.items()}
        found["evaluated step"] = evaluation.step
    found |= {name: arrays(run / name) for name in ARCHIVES if (run / name).exists()}
    logged = {(values["step"], name): value for values in metrics(run) for name, value in values.items()}
    found["metrics"] = {key: value for key, value in logged.items() if key[1] not in ("time", "crc32")}
    if (run / "data").exists():
        found["store"] = [dict(task.fields) for task in read_store(run / "data").tasks]
        found["replay"] = (run / "replay.f32").read_bytes()
    return found


def differences(a: Any, b: Any, where: str = "") -> Iterator[str]:
    """Where two results differ, in a bit or a type, however deep."""
    if type(a) is not type(b):
        yield where
    elif isinstance(a, dict):
        for key in a | b:
            yield from differences(a.get(key), b.get(key), f"{where}/{key}")
    elif isinstance(a, list | tuple):
        if len(a) != len(b):
            yield f"{where}: {len(a)} and {len(b)} items"
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            yield from differences(x, y, f"{where}/{i}")
    elif isinstance(a, torch.Tensor):
        yield from differences(a.numpy(), b.numpy(), where)
    elif isinstance(a, np.ndarray):
        if (a.dtype, a.shape, a.tobytes()) != (b.dtype, b.shape, b.tobytes()):
            yield where
    elif a != b:
        yield where


@dataclass
class Tally:
    """What became of the kills of a phase.

    Args:
        hits: Kills by kind.
        updates: Updates made when they came.
        cut: Names of the files that `half` cut.
        beside: Files and folders under temporary names that kills left.
        finished: Runs that ended by themselves.
        wrong: What could not be read, or was not as in the uninterrupted run.
    """

    hits: Counter[str] = field(default_factory=Counter)
    updates: list[int] = field(default_factory=list)
    cut: Counter[str] = field(default_factory=Counter)
    beside: int = 0
    finished: int = 0
    wrong: list[str] = field(default_factory=list)

    def row(self, phase: str) -> dict[str, Any]:
        """Of the table."""
        return {
            "phase": phase,
            **{f"{kind}": self.hits[kind] for kind in KINDS},
            "at updates": " ".join(map(str, self.updates)),
            "cut within": ", ".join(f"{count} {name}" for name, count in self.cut.most_common()),
            "left beside": self.beside,
            "ends compared": self.finished,
            "faults": len(self.wrong),
            "identical": "no" if self.wrong else "yes",
        }


class Campaign:
    """The kills of one phase; making it makes the uninterrupted run.

    Args:
        phase: Of ``PHASES``.
        experiment: Folder with what it needs.
        work: Folder for its runs.
        seed: Of the moments.
        updates: Of a run.
    """

    def __init__(self, phase: str, experiment: Path, work: Path, seed: int = 0, updates: int = 100) -> None:
        self.phase, self.experiment, self.work, self.updates, self.tally = phase, experiment, work, updates, Tally()
        self.draws, self.whole = random.Random(f"{seed}/{phase}"), work / "whole"
        if self.whole.exists():
            raise FileExistsError(f"{self.whole}: is of another campaign; give a new folder as --work")
        self.ending = self.start(self.whole, Moment())
        if self.ending.code:
            raise RuntimeError(f"{self.whole}: ended with {self.ending.code} although nothing killed it")
        self.files = {path.name: path.stat().st_size for path in self.whole.rglob("*") if path.is_file()}

    def start(self, run: Path, moment: Moment) -> Ending:
        """Begin or resume a run."""
        return start(command(self.phase, self.experiment, run, self.updates), run, moment)

    def kill(self, kinds: Iterable[str]) -> Tally:
        """Kill once for each of the kinds, resuming in between; then let the run finish."""
        for kind in kinds:
            while not self.killed(self.moment(kind)):
                pass
        self.killed(Moment())
        return self.tally

    def moment(self, kind: str) -> Moment:
        """A random one, within what the uninterrupted run took."""
        if kind == "time":
            return Moment(kind, seconds=self.draws.uniform(0, self.ending.seconds))
        call, share = self.draws.randint(1, self.ending.calls[kind]), self.draws.random()
        return Moment(kind, call=call, share=share, files=self.files)

    def killed(self, moment: Moment) -> bool:
        """Go on; whether the moment came before the end. After an end, the next run begins anew."""
        run, since = self.work / f"killed-{self.tally.finished}", time.time()
        before = temporary(run)
        ending = self.start(run, moment)
        if ending.killed:
            self.tally.hits[moment.kind] += 1
            self.tally.updates.append(updates_made(run, since))
            self.tally.beside += len(temporary(run) - before)
            self.tally.cut.update(self.cut(run, ending.limit))
            self.tally.wrong += [f"{run}: {fault}" for fault in faults(run)]
            return True
        self.tally.finished += 1
        self.tally.wrong += [f"{run}: {fault}" for fault in self.compared(run, ending.code)]
        return False

    def compared(self, run: Path, code: int) -> list[str]:
        """What is wrong with a run that ended by itself."""
        if code:
            return [f"ended with {code}"]
        return faults(run) or list(differences(results(self.whole), results(run)))

    def cut(self, run: Path, limit: int) -> list[str]:
        """The final name of a file that ends exactly at the limit."""
        found = [path.name for path in run.rglob("*") if path.is_file() and path.stat().st_size == limit]
        return [name for name in self.files if any(name in other for other in found)][:1]


def temporary(run: Path) -> set[tuple[Path, int]]:
    """Hidden files and folders of a run, and when they were changed."""
    return {(path, path.stat().st_mtime_ns) for path in run.glob(".*")}


def updates_made(run: Path, since: float) -> int:
    """Updates of a process that has left its metrics, or of the checkpoint that it began with."""
    steps = [values["step"] for values in metrics(run) if values["time"] >= since]
    if not steps and (run / "last.ckpt").exists():
        steps = [Checkpoint.read(run / "last.ckpt").content["global_step"]]
    return max(steps, default=0)


def main(words: Sequence[str]) -> None:
    """Kill and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.kill_campaign", description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="of each phase (default: %(default)s)")
    parser.add_argument("--phases", type=lambda text: text.split(","), default=PHASES, help="(default: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--work", type=Path, help="folder for the runs, which are kept (default: a temporary one)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    with threads(1), tempfile.TemporaryDirectory() as folder:
        work = options.work or Path(folder)
        prepare(work / "experiment")
        tallies = {phase: attack(phase, work, options.kills, options.seed) for phase in options.phases}
        publish("kill_campaign", {"Phases": [t.row(phase) for phase, t in tallies.items()]}, words, options.output)
    if wrong := [fault for tally in tallies.values() for fault in tally.wrong]:
        sys.exit("\n".join([*wrong[:SHOWN], f"{len(wrong)} faults"]))


def attack(phase: str, work: Path, kills: int, seed: int) -> Tally:
    """The kinds in turn, in a random order."""
    kinds = [KINDS[i % len(KINDS)] for i in range(kills)]
    random.Random(seed).shuffle(kinds)
    return Campaign(phase, work / "experiment", work / phase, seed).kill(kinds)


if __name__ == "__main__":
    main(sys.argv[1:])
