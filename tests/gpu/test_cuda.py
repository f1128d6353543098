"""What a CUDA device computes is what the CPU computes, for every method: updates, batches, evaluation, CUDA graphs."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from commands import ROOT, command

from benchmarks import learners
from benchmarks.step_time import captured
from mbml_lightning.cli.main import main
from mbml_lightning.files.evaluation import Evaluation

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]
CPU, CUDA, TASKS = torch.device("cpu"), torch.device("cuda"), 3
APART = ["sac", "bcq", "ensemble"]
METHODS = [*APART, *learners.STUDENTS]


def learner(method, device):
    """A method with synthetic rows, and a batch: the same numbers on every device."""
    torch.manual_seed(0)
    scale = learners.load_scale("tiny")
    rows = learners.synthetic_rows("UmazeGoalM", TASKS, scale.interactions, device)
    if method in APART:
        algorithm, _ = learners.PHASES[method]("UmazeGoalM", TASKS, scale, rows)
    else:
        algorithm = learners.students("UmazeGoalM", TASKS, scale, rows, [method])[method]
    learners.attach(algorithm.to(device))
    by_cpu = replace(rows, packed=rows.packed.cpu())
    batch = by_cpu.draw(torch.Generator().manual_seed(0), algorithm.batch_size, algorithm.context_rows)
    return algorithm, to(batch, device)


def to(x, device):
    """Tensors, and tuples of them, on a device."""
    if isinstance(x, torch.Tensor) or x is None:
        return None if x is None else x.to(device)
    return type(x)(*(to(part, device) for part in x))


@pytest.fixture
def same_numbers(monkeypatch):
    """Random numbers are drawn on the CPU and moved, so that every device gets the same."""

    def moved(draw):
        return lambda *size, device=None, **options: draw(*size, **options).to(device or CPU)

    for name in ("randn", "rand"):
        monkeypatch.setattr(torch, name, moved(getattr(torch, name)))
    monkeypatch.setattr(torch, "randn_like", lambda x: torch.randn(x.shape).to(x))


def updated(method, device, updates=3):
    """The losses of some updates, and the gradients of the first."""
    algorithm, batch = learner(method, device)
    torch.manual_seed(1)
    losses = [{name: x.item() for name, x in algorithm.update(batch).items()}]
    gradients = {name: p.grad.cpu().clone() for name, p in algorithm.named_parameters() if p.grad is not None}
    losses += [{name: x.item() for name, x in algorithm.update(batch).items()} for _ in range(updates - 1)]
    assert all(p.device.type == device.type for p in algorithm.parameters())
    return losses, gradients


@pytest.mark.parametrize("method", METHODS)
def test_updates_are_those_of_the_cpu(method, same_numbers):
    (expected, by_cpu), (losses, by_cuda) = updated(method, CPU), updated(method, CUDA)
    for one, other in zip(losses, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-3, abs=1e-5)
    assert by_cuda.keys() == by_cpu.keys() and by_cpu
    for name, gradient in by_cpu.items():
        assert (by_cuda[name] - gradient).norm() <= 1e-3 * gradient.norm() + 1e-7, name


@pytest.mark.parametrize("context", [0, 8])
def test_batches_are_drawn_where_the_rows_are(context):
    rows = learners.synthetic_rows("UmazeGoalM", TASKS, 50, CUDA)
    batch = rows.draw(torch.Generator(CUDA).manual_seed(0), 20, context)
    drawn = [*batch.transitions, *(batch.contexts or [])]
    assert all(x.device.type == "cuda" for x in drawn)
    known = {tuple(task_row) for task in rows.packed[..., :4].tolist() for task_row in task}
    assert all(tuple(s) in known for s in batch.transitions.observations.flatten(0, 1).tolist())


def replayed_weights(method, as_graph, same_start):
    algorithm, batch = learner(method, CUDA)
    algorithm.load_state_dict(same_start)
    step = captured(lambda: algorithm.update(batch)) if as_graph else lambda: algorithm.update(batch)
    for _ in range(5 if as_graph else 8):  # capturing has made three updates
        step()
    return {name: p.detach().cpu() for name, p in algorithm.named_parameters()}


def test_a_cuda_graph_of_an_update_makes_the_updates():
    """Of the ensemble, which draws no numbers."""
    start = learner("ensemble", CUDA)[0].state_dict()
    start = {name: x.clone() for name, x in start.items()}
    eager, graph = (replayed_weights("ensemble", as_graph, start) for as_graph in (False, True))
    for name, p in eager.items():
        torch.testing.assert_close(graph[name], p, rtol=1e-4, atol=1e-6)
        assert not torch.equal(p, start[name].cpu()), name


@pytest.mark.parametrize("method", ["bcq", "mbml", "random"])
def test_evaluation_gives_the_returns_of_the_cpu(experiment, tmp_path, method):
    trained = experiment / method / "seed-0"
    words = command(method, experiment, f"--run={tmp_path}", "--evaluation.trials=2", "--trainer.accelerator=cuda")
    weights = [] if method == "random" else ["--ckpt_path", str(trained / "last.ckpt")]
    main(["validate", *words[1:], *weights])
    by_cpu, by_cuda = (Evaluation.load(folder / "evaluation.json") for folder in (trained, tmp_path))
    for name, split in by_cpu.splits.items():
        np.testing.assert_allclose(by_cuda.splits[name].returns, split.returns, rtol=1e-2, atol=1e-2)


def fit_bcq(experiment, run, devices):
    ddp = ["--trainer", str(ROOT / "conf/trainer/ddp.yaml")] if devices > 1 else []
    words = command("bcq", experiment, f"--run={run}", *ddp, "--trainer.accelerator=cuda")
    words += [f"--trainer.devices={devices}", "--trainer.limit_val_batches=0", "--trainer.max_steps=10"]
    subprocess.run([sys.executable, "-m", "mbml_lightning", *words], check=True, timeout=240, env=os.environ.copy())
    state = torch.load(run / "last.ckpt", weights_only=True, map_location="cpu")
    assert [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return state["state_dict"]


def test_a_training_on_the_device_leaves_weights_that_the_cpu_reads(experiment, tmp_path):
    weights = fit_bcq(experiment, tmp_path, 1)
    assert all(x.isfinite().all() for x in weights.values())


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="fewer than two CUDA devices")
def test_two_ranks_over_nccl_train_what_one_device_does(experiment, tmp_path):
    one, two = (fit_bcq(experiment, tmp_path / str(devices), devices) for devices in (1, 2))
    for name, x in one.items():
        torch.testing.assert_close(two[name], x, rtol=1e-3, atol=1e-4)
