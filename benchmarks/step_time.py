"""Time of one update of each phase beside a plain reference, and beside what the machine's matrix products allow."""

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from benchmarks.learners import PHASES, Learner, load_scale, make
from benchmarks.measuring import DEFAULT, SETTINGS, Rows, Setting, alternate, gflop, publish, speed_up, spread, threads
from benchmarks.references import BCQReference, EnsembleReference, MBMLReference, SACReference
from mbml_lightning.cli import quieten

REFERENCES = {"sac": SACReference, "bcq": BCQReference, "ensemble": EnsembleReference, "mbml": MBMLReference}
AIMS = {
    ("sac", "medium"): 2.5,
    ("bcq", "medium"): 1.9,
    ("ensemble", "medium"): 5,
    ("mbml", "medium"): 2,
    ("sac", "bf16 autocast"): 3.5,
    ("bcq", "bf16 autocast"): 3,
    ("ensemble", "bf16 autocast"): 8,
    ("mbml", "bf16 autocast"): 4,
}
"""Times faster than the reference at torch's defaults, on two CPU cores."""


def check_agreement(ours: Any, reference: Any, batches: Sequence[Any], tolerance: float) -> None:
    """Both make the same updates from the same weights and random numbers.

    Args:
        ours: A method.
        reference: Its plain version.
        batches: One for each update.
        tolerance: Largest difference of a loss, and of the weights as a share of what the updates changed in them.

    Raises:
        AssertionError: If they do not.
    """
    start = {name: [w.clone() for w in _weights(ours, name)] for name in reference.stacks}
    for seed, batch in enumerate(batches):
        torch.manual_seed(seed)
        expected = reference.update(batch)
        torch.manual_seed(seed)
        actual = ours.update(batch)
        for name, value in expected.items():
            assert torch.isclose(actual[name], value, rtol=tolerance, atol=tolerance), (name, actual[name], value)
    for name, nets in reference.stacks.items():
        for before, mine, plain in zip(start[name], _weights(ours, name), _restacked(nets), strict=True):
            error, change = (mine - plain).abs().mean(), (plain - before).abs().mean()
            assert error <= tolerance * change, (name, error, change)


def _weights(ours: Any, name: str) -> list[torch.Tensor]:
    module = getattr(ours, name)
    mlp = getattr(module, "mlp", module)
    return [w.detach().reshape(-1, *w.shape[len(mlp.members) :]) for w in (*mlp.weights, *mlp.biases)]


def _restacked(nets: Sequence[torch.nn.Sequential]) -> list[torch.Tensor]:
    layers = list(zip(*([m for m in net if isinstance(m, torch.nn.Linear)] for net in nets), strict=True))
    weights = [torch.stack([linear.weight.detach().T for linear in layer]) for layer in layers]
    return [*weights, *(torch.stack([linear.bias.detach() for linear in layer]) for layer in layers)]


def under(setting: Setting, device: torch.device, call: Callable[[], object]) -> Callable[[], None]:
    """The call under a setting."""

    def run() -> None:
        with setting.active(device):
            call()

    return run


def captured(call: Callable[[], object]) -> Callable[[], None]:
    """The call as one CUDA graph, on tensors that stay where they are."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def product_rates(shape: tuple[int, int, int, int], rounds: int, device: torch.device) -> dict[str, float]:
    """GFLOP/s of the three products of one layer (outputs, gradients of inputs and of weights) under each setting.

    Args:
        shape: Networks, rows, inputs, outputs.
        rounds: Samples.
        device: Where.
    """
    nets, rows, inputs, outputs = shape
    operands = {}
    for setting in SETTINGS:
        dtype = torch.bfloat16 if setting.autocast else torch.float32
        sizes = ((nets, rows, inputs), (nets, inputs, outputs), (nets, rows, outputs))
        operands[setting] = [
            torch.randn(*(size[1:] if nets == 1 else size), device=device, dtype=dtype) for size in sizes
        ]

    def layer(x: torch.Tensor, w: torch.Tensor, g: torch.Tensor) -> None:
        _ = x @ w, g @ w.mT, x.mT @ g

    calls = {s.name: under(s, device, functools.partial(layer, *operands[s])) for s in SETTINGS}
    work = 6e-9 * nets * rows * inputs * outputs
    return {name: work / statistics.median(seconds) for name, seconds in alternate(calls, rounds, device).items()}


def product_errors(size: int, device: torch.device) -> dict[str, float]:
    """Relative error (Frobenius) of a float32 linear layer against float64 under each setting."""
    x, w = torch.randn(size, size, device=device), torch.randn(size, size, device=device)
    exact = F.linear(x.double(), w.double())
    errors = {}
    for setting in SETTINGS:
        with setting.active(device):
            errors[setting.name] = ((F.linear(x, w).double() - exact).norm() / exact.norm()).item()
    return errors


def measure(phase: str, options: argparse.Namespace) -> tuple[Rows, Rows]:
    """The rows of one phase: its updates, and the drawing of its batches."""
    device = torch.device(options.device)
    learner = make(phase, options.distribution, options.num_tasks, load_scale(options.scale), device)
    ours, batch = learner.algorithm, learner.batches[0]
    reference = REFERENCES[phase](ours)
    check_agreement(ours, reference, learner.batches, tolerance=0.02)
    updates = {"reference": lambda: reference.update(batch), "ours": lambda: ours.update(batch)}
    calls = {(who, s.name): under(s, device, call) for who, call in updates.items() for s in SETTINGS}
    work = {who: gflop(call) for who, call in updates.items()}
    if device.type == "cuda":
        for s in SETTINGS:
            calls["ours, CUDA graph", s.name] = captured(calls["ours", s.name])
        work["ours, CUDA graph"] = work["ours"]
    samples = alternate(calls, options.rounds, device)
    rates = product_rates(learner.widest, options.rounds, device)
    slow = samples["reference", DEFAULT.name]
    rows = [
        {
            "phase": phase,
            "update": who,
            "setting": setting,
            "ms": (ms := 1e3 * statistics.median(seconds)),
            "spread %": 100 * spread(seconds),
            "updates/s": 1e3 / ms,
            "times faster": speed_up(slow, seconds),
            "aim": AIMS.get((phase, setting), "") if who == "ours" else "",
            "GFLOP": work[who],
            "GFLOP/s": work[who] / ms * 1e3,
            "product rate": rates[setting],
            "% of it": 100 * work[who] / ms * 1e3 / rates[setting],
        }
        for (who, setting), seconds in samples.items()
    ]
    return rows, [drawing(phase, learner, min(row["ms"] for row in rows), options.rounds)]


def drawing(phase: str, learner: Learner, fastest: float, rounds: int) -> dict[str, Any]:
    """How long drawing the rows of an update takes, beside the fastest update."""
    ours, rows = learner.algorithm, learner.rows
    generator = torch.Generator(rows.packed.device).manual_seed(0)
    draw = functools.partial(rows.draw, generator, ours.batch_size, ours.context_size)
    ms = 1e3 * statistics.median(alternate({"draw": draw}, rounds, rows.packed.device)["draw"])
    return {"phase": phase, "ms": ms, "% of the fastest update": 100 * ms / fastest, "aim": "< 2"}


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.step_time", description=__doc__)
    parser.add_argument("--phases", nargs="+", choices=PHASES, default=list(PHASES))
    parser.add_argument("--scale", default="paper", help="sizes of conf/scale (default: %(default)s)")
    parser.add_argument("--distribution", default="UmazeGoalM", help="gives K, S and A (default: %(default)s)")
    parser.add_argument("--num-tasks", type=int, help="fewer tasks than the distribution's")
    parser.add_argument("--threads", type=int, help="torch's threads (default: torch's)")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each variant (default: %(default)s)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    device = torch.device(options.device)
    quieten()
    with threads(options.threads):
        measured = [measure(phase, options) for phase in options.phases]
        rates, errors = product_rates((1, 2048, 2048, 2048), options.rounds, device), product_errors(1024, device)
        tables = {
            "Updates": [row for rows, _ in measured for row in rows],
            "Drawing": [row for _, rows in measured for row in rows],
            "Matrix products": [{"setting": s, "GFLOP/s": rates[s], "relative error": errors[s]} for s in rates],
        }
        publish("step_time", tables, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
