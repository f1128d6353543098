"""The moving average of weights, which is evaluated and kept in place of the last ones."""

import json

import torch
from commands import command

from mbml_lightning.cli.main import main
from mbml_lightning.files.checkpoints import Checkpoint

DECAY, BLOCK = 0.9, 5


def weights_after(updates, experiment, tmp_path, *more):
    """Weights that a training keeps, whose first updates are those of a longer one."""
    run = tmp_path / f"{updates}{''.join(more)}"
    words = [f"--run={run}", f"--trainer.max_steps={updates}", f"--model.updates_per_block={BLOCK}"]
    main(command("neither", experiment, *words, "--evaluation.trials=1", "--scale.evaluate_every=5", *more))
    return run, Checkpoint.read(run / "last.ckpt").state_dict


def test_what_is_kept_is_the_average_of_the_weights_after_each_block(experiment, tmp_path):
    blocks = [weights_after(n, experiment, tmp_path)[1] for n in (5, 10, 15)]
    run, kept = weights_after(15, experiment, tmp_path, f"--model.ema_decay={DECAY}")
    for name, tensor in kept.items():
        first, second, third = (weights[name].double() for weights in blocks)
        rate = 1 - DECAY**BLOCK
        expected = first + rate * (second - first)
        expected = expected + rate * (third - expected)
        torch.testing.assert_close(tensor.double(), expected, rtol=1e-5, atol=1e-7)
    assert not torch.equal(kept["encoder.mlp.weights.0"], blocks[-1]["encoder.mlp.weights.0"])
    evaluated = json.loads((run / "evaluation.json").read_text())
    main(["validate", "-c", f"{run}/config.yaml", "--ckpt_path=last", "--evaluation.seed=0"])
    assert json.loads((run / "evaluation.json").read_text())["splits"] == evaluated["splits"]


def test_a_run_that_was_stopped_goes_on_from_its_last_weights(experiment, tmp_path):
    decay = f"--model.ema_decay={DECAY}"
    run, _ = weights_after(10, experiment, tmp_path, decay)
    main(["fit", "-c", f"{run}/config.yaml", "--ckpt_path=last", "--trainer.max_steps=15"])
    whole = weights_after(15, experiment, tmp_path, decay)[1]
    gone_on = Checkpoint.read(run / "last.ckpt")
    assert gone_on.content["global_step"] == 15
    assert all(torch.equal(tensor, whole[name]) for name, tensor in gone_on.state_dict.items())
