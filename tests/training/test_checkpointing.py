"""A run is resumed with another learning rate, and with no other argument changed."""

from pathlib import Path

import pytest
import torch
from commands import command

from mbml_lightning.algorithms.bcq import BCQ
from mbml_lightning.cli.main import main
from mbml_lightning.files.checkpoints import Checkpoint

OLD, NEW = 3e-4, 3e-3


def train(experiment: Path, run: Path, updates: int, *more: str) -> Checkpoint:
    """Train BCQ, or go on, with one update a block."""
    sizes = ["--model.updates_per_block=1", f"--trainer.max_steps={updates}", "--trainer.limit_val_batches=0"]
    main(command("bcq", experiment, f"--run={run}", "--ckpt_path=last", "--evaluation.splits=[]", *sizes, *more))
    return Checkpoint.read(run / "last.ckpt")


@pytest.fixture(scope="module")
def steps(experiment, tmp_path_factory) -> dict[float, list[Checkpoint]]:
    """The checkpoints before and after one update of a resumed run, by its learning rate."""
    made = {}
    for rate in (OLD, NEW):
        run = tmp_path_factory.mktemp("rate")
        made[rate] = [train(experiment, run, 5), train(experiment, run, 6, f"--model.lr={rate}")]
    return made


@pytest.mark.parametrize("rate", [OLD, NEW])
def test_the_first_step_after_resuming_is_adam_s_with_the_given_learning_rate(steps, rate):
    """Of the critics: lr m / (sqrt(v) + eps) with the bias-corrected moments m and v that the step left."""
    before, after = steps[rate]
    learned = [name for name in before.state_dict if name.startswith("networks.q.")]
    moments = after.content["optimizer_states"][1]["state"]
    assert len(learned) == len(moments)
    for name, state in zip(learned, moments.values(), strict=True):
        m, v = (state[moment].double() for moment in ("exp_avg", "exp_avg_sq"))
        count = state["step"].double()
        step = rate * m / (1 - 0.9**count) / ((v / (1 - 0.999**count)).sqrt() + 1e-8)
        moved = before.state_dict[name].double() - after.state_dict[name].double()
        torch.testing.assert_close(moved, step, rtol=1e-3, atol=1e-6)  # weights are rounded to float32
        assert step.abs().max() > rate / 10


def test_changed_learning_rates_are_recorded_through_later_resumes(experiment, tmp_path):
    assert train(experiment, tmp_path, 2).record["changes"] == []
    changed = {"step": 2, "argument": "model.lr", "from": OLD, "to": NEW}
    found = train(experiment, tmp_path, 4, f"--model.lr={NEW}")
    assert found.record["changes"] == [changed]
    assert {group["lr"] for state in found.content["optimizer_states"] for group in state["param_groups"]} == {NEW}
    assert train(experiment, tmp_path, 5, f"--model.lr={NEW}").record["changes"] == [changed]
    back = {"step": 5, "argument": "model.lr", "from": NEW, "to": OLD}
    assert train(experiment, tmp_path, 6).record["changes"] == [changed, back]


def test_a_run_without_changes_resumes_with_its_own_rate(steps):
    before, after = steps[OLD]
    assert before.record["changes"] == after.record["changes"] == []
    assert {group["lr"] for state in after.content["optimizer_states"] for group in state["param_groups"]} == {OLD}


def test_a_method_goes_by_the_name_that_the_command_gave_it():
    bcq = BCQ("PointGoal", hidden=[4], vae_hidden=[4])
    assert bcq.label == "BCQ"
    for method, label in {"neither": "Neither", "my_own": "my_own"}.items():
        bcq.config = {"method": method}
        assert bcq.label == label
