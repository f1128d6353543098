"""Memory of phase 2 by number of tasks: what is held, and what an update needs beside it."""

import argparse
import multiprocessing
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from benchmarks.learners import load_scale, make
from benchmarks.measuring import publish
from mbml_lightning import envs
from mbml_lightning.algorithms import MBML
from mbml_lightning.cli.run import quieten
from mbml_lightning.data.relabelling import EnsembleRelabeller

MB = 2**20
ROWS = 2000
"""Transitions a task that are held while measuring; the table states what the distribution's own number needs."""


def resident(field: str) -> float:
    """VmRSS, what this process holds now, or VmHWM, the most that it held; MB, of Linux only."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(field))


def size(*parts: Any) -> float:
    """MB of tensors and of modules' parameters."""
    tensors = [p for part in parts for p in (part.parameters() if isinstance(part, nn.Module) else [part])]
    return sum(t.numel() * t.element_size() for t in tensors) / MB


def measure(distribution: str, tasks: int, scale: str, interactions: int) -> dict[str, Any]:
    """One row of the table; in a process of its own, whose peak is this measurement's."""
    quieten()
    learner = make("mbml", distribution, tasks, replace(load_scale(scale), interactions=ROWS), torch.device("cpu"))
    mbml = learner.algorithm
    assert isinstance(mbml, MBML) and isinstance(mbml.relabeller, EnsembleRelabeller)
    relabeller, width = mbml.relabeller, learner.rows.packed.shape[-1]
    ensembles = [relabeller.ensemble, *([relabeller.dynamics] if relabeller.next_state_threshold is not None else [])]
    mbml.update(learner.batches[0])  # gradients and Adam's moments are held from the first update on
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak so far
    before = resident("VmRSS")
    mbml.update(learner.batches[1])
    return {
        "K": tasks,
        "transitions": tasks * interactions * width * 4 / MB,
        "reward table": tasks**2 * interactions * 5 / MB,
        "ensembles": size(*ensembles),
        "student, gradients, Adam": 4 * size(mbml),
        "most in an update": resident("VmHWM") - before,
        "context rows": tasks**2 * mbml.context_size,
        "context rows, padded triplets": 3 * tasks * (tasks - 1) * mbml.context_size,
    }


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--distribution", default="WalkerParam", help="(default: %(default)s)")
    parser.add_argument("--tasks", nargs="+", type=int, default=[10, 20, 30], help="K (default: %(default)s)")
    parser.add_argument("--scale", default="paper", help="sizes of conf/scale (default: %(default)s)")
    parser.add_argument("--interactions", type=int, default=300_000, help="N, for the computed columns")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    envs.distribution(options.distribution)
    with multiprocessing.get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        arguments = [(options.distribution, k, options.scale, options.interactions) for k in options.tasks]
        publish("memory", {"MB": pool.starmap(measure, arguments, chunksize=1)}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
