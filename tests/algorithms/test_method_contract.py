"""What every method that acts keeps to, through the commands that a user gives, and on every distribution."""

import inspect
import json
from pathlib import Path

import pytest
import torch
import yaml
from commands import ABLATIONS, ACTING, BASELINES, command, configuration

from mbml_lightning import algorithms
from mbml_lightning.algorithms import Algorithm
from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.cli.main import main
from mbml_lightning.envs import DISTRIBUTIONS
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.results.methods import METHODS

TRAINED = [name for name in ACTING if METHODS[name].is_trained]
BLOCKS = "--model.updates_per_block=5"


@pytest.fixture(scope="module")
def runs(experiment: Path, tmp_path_factory):
    """The run folder of a method, fitted once."""
    folder = tmp_path_factory.mktemp("contract")

    def run(name: str) -> Path:
        if name not in (*BASELINES, *ABLATIONS):
            return experiment / name / "seed-0"
        if not (folder / name).exists():
            words = [BLOCKS, "--trainer.val_check_interval=4", "--evaluation.trials=2"]
            main(command(name, experiment, *words, f"--run={folder / name}"))
        return folder / name

    return run


# Through the commands -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ABLATIONS)
def test_a_printed_ablation_is_the_same_again(capsys, experiment, tmp_path, name: str) -> None:
    """The others, on every distribution, are in ``test_cli.py``."""

    def printed(*words: str) -> str:
        with pytest.raises(SystemExit) as stop:
            main([*words, "--print_config"])
        assert stop.value.code == 0
        return capsys.readouterr().out

    words = command(name, experiment)
    (tmp_path / "printed.yaml").write_text(printed(*words))
    again = printed(words[0], "-c", str(tmp_path / "printed.yaml"))
    assert yaml.safe_load(again) == yaml.safe_load((tmp_path / "printed.yaml").read_text())
    assert yaml.safe_load(again)["method"] == name


@pytest.mark.parametrize("name", TRAINED)
def test_a_run_validates_to_the_scores_that_it_ended_with(runs, tmp_path, name: str) -> None:
    run = runs(name)
    ended = Evaluation.load(run / "evaluation.json")
    words = ["validate", "-c", str(run / "config.yaml"), "--ckpt_path", str(run / "last.ckpt")]
    main([*words, f"--run={tmp_path}", f"--evaluation.folder={tmp_path}"])
    validated = Evaluation.load(tmp_path / "evaluation.json")
    assert validated.step == ended.step == (100 if name == "sac" else 20)
    assert set(ended.splits) == ({"train"} if name in ("sac", "bcq") else {"train", "test"})
    assert set(validated.splits) == set(ended.splits)
    for split, result in ended.splits.items():
        assert (validated.splits[split].returns == result.returns).all()


@pytest.mark.parametrize("name", ABLATIONS)
def test_an_ablation_goes_on_as_if_it_had_not_stopped(runs, experiment, tmp_path, name: str) -> None:
    """Baselines and phases are killed and resumed in ``test_resume.py``."""

    def weights(run: Path) -> dict[str, torch.Tensor]:
        checkpoint = torch.load(run / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 20
        return checkpoint["state_dict"]

    for updates in (10, 20):
        words = [BLOCKS, "--trainer.limit_val_batches=0", f"--trainer.max_steps={updates}", f"--run={tmp_path}"]
        main(command(name, experiment, *words, "--ckpt_path=last"))
    whole, resumed = weights(runs(name)), weights(tmp_path)
    assert whole.keys() == resumed.keys()
    assert all(torch.equal(weight, resumed[key]) for key, weight in whole.items())


def test_a_hook_leaves_its_weights_in_the_checkpoint_and_its_losses_in_the_log(runs) -> None:
    run, terms = runs("unicorn_ss"), ("reward", "next_state")
    weights = torch.load(run / "last.ckpt", weights_only=True)["state_dict"]
    assert {f"hooks.reconstruction.decoders.{term}.weights.0" for term in terms} < weights.keys()
    logged = {name for line in (run / "metrics.jsonl").read_text().splitlines() for name in json.loads(line)}
    assert {"train/focal_loss", *(f"train/reconstruction_{term}_loss" for term in terms)} < logged


# On every distribution ------------------------------------------------------------------------------------------

K, B, SMALL = 2, 3, (4,)
MADE = [name for name in ACTING if name != "best_teacher"]  # which is a trained one
CLASSES = sorted({configuration(METHODS[name])["model"]["class_path"] for name in MADE})
CONTEXTUAL = [name for name in CLASSES if issubclass(getattr(algorithms, name), ContextualAlgorithm)]


def tiny(method: type[Algorithm]) -> dict[str, object]:
    """The smallest arguments of a method, but for the distribution."""
    bases = [method, ContextualAlgorithm] if issubclass(method, ContextualAlgorithm) else [method]
    names = {name for base in bases for name in inspect.signature(base).parameters}
    hidden = {name: SMALL for name in names if name.endswith("hidden")}
    given = {"num_tasks": K, "teachers": "unused"}
    return hidden | {name: value for name, value in given.items() if name in names}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
@pytest.mark.parametrize("name", CLASSES)
def test_every_method_acts_in_the_box_on_every_distribution(name: str, distribution: str) -> None:
    torch.manual_seed(0)
    method = getattr(algorithms, name)
    model, family = method(distribution, **tiny(method)), DISTRIBUTIONS[distribution]
    policy, s = model.policy(), 5 * torch.randn(K, B, family.observation_dim)
    z = None if model.encoder is None else torch.randn(K, B, model.encoder.z_dim)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(10)  # into the corners of the box, too
        a = policy.act(s, z, torch.randn(K, B, policy.noise_dim))
    assert a.shape == (K, B, family.action_dim) and a.dtype == torch.float32
    assert (a.abs() <= 1).all()  # False of NaN, too


@pytest.mark.parametrize("name", CONTEXTUAL)
def test_methods_that_infer_their_task_act_by_it(name: str) -> None:
    torch.manual_seed(0)
    method = getattr(algorithms, name)
    model = method("UmazeGoalM", **tiny(method))
    policy, s = model.policy(), torch.randn(K, B, 4)
    noise, z = torch.randn(K, B, policy.noise_dim), torch.randn(K, B, model.encoder.z_dim)
    assert torch.equal(policy.act(s, z, noise), policy.act(s, z, noise))
    assert (policy.act(s, z, noise) != policy.act(s, z.roll(1, 0), noise)).any(-1).all()
