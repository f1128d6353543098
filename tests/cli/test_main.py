"""The commands as a user gives them: composition, overrides, interpolation, errors."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from commands import ROOT, TINY, command

from mbml_lightning.cli.main import main
from mbml_lightning.data.budget import steps_of
from mbml_lightning.data.online import check_amounts
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.evaluation import Evaluation


def printed_config(capsys, *words, form="--print_config=resolved"):
    """What ``--print_config`` shows."""
    with pytest.raises(SystemExit) as stop:
        main([*words, form])
    assert stop.value.code == 0
    return yaml.safe_load(capsys.readouterr().out)


def error_of(capsys, *words):
    """The message of a command that is refused."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code not in (0, None)
    return capsys.readouterr().err + str(stop.value.code)


@pytest.mark.parametrize("phase", ["sac", "bcq", "reward_ensemble", "mbml", "neither", "random"])
def test_every_phase_leaves_its_results(experiment, phase):
    run = experiment / phase / "seed-0"
    assert (run / "config.yaml").is_file()
    assert (run / "last.ckpt").is_file() == (phase != "random")
    if phase == "reward_ensemble":
        return
    evaluation = Evaluation.load(run / "evaluation.json")
    splits = {"train"} if phase in ("sac", "bcq") else {"train", "test"}
    assert set(evaluation.splits) == splits
    assert (evaluation.distribution, evaluation.horizon, evaluation.trials) == ("PointGoal", 20, 2)
    assert evaluation.step == {"sac": 100, "random": 0}.get(phase, 20)


def test_metrics_are_counted_in_updates(experiment):
    lines = [json.loads(line) for line in (experiment / "mbml/seed-0/metrics.jsonl").read_text().splitlines()]
    losses = {"q_loss", "candidate_loss", "perturbation_loss", "kl_loss", "triplet_loss", "kept_fraction"}
    assert {f"train/{name}" for name in losses} <= set(lines[0])
    assert [line["step"] for line in lines if "train/q_loss" in line] == [20]
    evaluated = lines[-1] | lines[-2]
    assert evaluated["step"] == 20 and {"val/return_test", "val/reward_sensitivity"} <= set(evaluated)


TASKS, SCALES = (sorted((ROOT / "conf" / folder).glob("*.yaml")) for folder in ("task", "scale"))
EVERY = [(task, ROOT / "conf/scale/laptop.yaml") for task in TASKS] + [(TASKS[0], scale) for scale in SCALES]


@pytest.mark.parametrize(("task", "scale"), EVERY)
@pytest.mark.parametrize("method", sorted((ROOT / "conf").glob("*.yaml")))
def test_every_configuration_prints_and_parses_again(capsys, tmp_path, method, task, scale):
    words = ["fit", "-c", str(method), "--task", str(task), "--scale", str(scale)]
    config = printed_config(capsys, *words)
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    assert printed_config(capsys, "fit", "-c", str(tmp_path / "config.yaml")) == config


@pytest.mark.parametrize("task", TASKS)
def test_every_step_of_a_laptop_s_budget_is_followed_by_its_updates(capsys, task):
    words = ["fit", "-c", str(ROOT / "conf/sac.yaml"), "--task", str(task), "--scale", str(EVERY[0][1])]
    config = printed_config(capsys, *words)
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    check_amounts(data["interactions"], data["capacity"], data["copies"])
    after = data["copies"], model["updates_per_step"]
    assert steps_of(config["trainer"]["max_steps"], model["warmup"], *after) == data["capacity"]


def test_a_scale_adds_options_to_the_distribution_that_is_asked_for(capsys, tmp_path):
    words = ["fit", "-c", str(ROOT / "conf/mbml.yaml"), "--task", str(ROOT / "conf/task/half_cheetah_vel.yaml")]
    laptop = ["--scale", str(ROOT / "conf/scale/laptop.yaml")]
    for more, name in [
        ([], "HalfCheetahVel"),
        (laptop, "HalfCheetahVel+torso_position=False"),
        ([*laptop, "--scale.distribution=HalfCheetahVel"], "HalfCheetahVel"),
        ([*laptop, "--task.distribution=AntDir", "--task.laptop.distribution=AntDir"], "AntDir"),
    ]:
        config = printed_config(capsys, *words, *more)
        assert [config[section]["init_args"]["distribution"] for section in ("model", "data")] == [name, name]
        assert config["experiment"].startswith("runs/" + name.partition("+")[0] + "-")
    words += [*laptop, "--task.distribution=HalfCheetahVel+torso_position=True", f"--run={tmp_path}"]
    assert "scale.distribution: HalfCheetahVel: option 'torso_position' is given twice" in error_of(capsys, *words)


def test_interpolation_reaches_across_files_and_overrides(capsys):
    words = ["fit", "-c", str(ROOT / "conf/mbml.yaml"), *TINY]
    config = printed_config(capsys, *words, "--task.relabel_threshold=0.7", "--model.hooks.triplet.margin=8")
    model = config["model"]["init_args"]
    assert model["relabeller"]["init_args"]["threshold"] == 0.7
    assert model["hooks"]["triplet"]["init_args"]["margin"] == 8
    assert model["q_hidden"] == [16, 16]
    assert config["run"] == config["evaluation"]["folder"] == "runs/PointGoal-tiny/mbml/seed-0"
    assert printed_config(capsys, *words, "--seed_everything=3")["run"].endswith("seed-3")


def test_data_are_those_of_the_methods_tasks(capsys):
    words = ["fit", "-c", str(ROOT / "conf/sac.yaml"), *TINY]
    data = printed_config(capsys, *words, "-c", str(ROOT / "conf/split/ood.yaml"), "--model.num_tasks=2")["data"]
    told = {name: data["init_args"][name] for name in ("distribution", "split", "num_tasks", "store")}
    assert told == {
        "distribution": "PointGoal",
        "split": "ood",
        "num_tasks": 2,
        "store": "runs/PointGoal-tiny/sac_ood/seed-0/data",
    }
    data = printed_config(capsys, "fit", "-c", str(ROOT / "conf/bcq.yaml"), *TINY, "--task.distribution=AntDir")["data"]
    assert data["class_path"].endswith("OfflineDataModule")
    assert (data["init_args"]["distribution"], data["init_args"]["split"]) == ("AntDir", "train")
    assert data["init_args"]["store"] == "runs/AntDir-tiny/sac/seed-0/data"


def test_a_file_of_one_group_reaches_the_whole_configuration(capsys):
    words = ["fit", "-c", str(ROOT / "conf/bcq.yaml"), *TINY, "--trainer", str(ROOT / "conf/trainer/wandb.yaml")]
    loggers = printed_config(capsys, *words, "--run=here")["trainer"]["logger"]
    assert [logger["init_args"]["save_dir"] for logger in loggers] == ["here", "here"]


def test_no_configuration_counts_dots():
    assert not [path for path in ROOT.glob("conf/**/*.yaml") if "${." in path.read_text()]


def test_paper_scale_takes_the_budgets_of_the_task(capsys):
    task = ["--task", str(ROOT / "conf/task/umaze_goal_m.yaml")]
    config = printed_config(capsys, "fit", "-c", str(ROOT / "conf/bcq.yaml"), *task)
    assert config["trainer"]["max_steps"] == 50_000
    assert config["scale"]["sac_hidden"] == [1024] * 7


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--model.lrr=1"], "lrr"),
        (["--trainer.max_step=1"], "max_step"),
        (["--task.distribution=Mars"], "Mars"),
        (["--scale.mbml_updates=many"], "mbml_updates"),
        (["--run", "${nowhere}"], "nowhere"),
        (["--ckpt_path", "nowhere.ckpt"], "nowhere.ckpt"),
        (["-c", "nowhere.yaml"], "nowhere.yaml"),
    ],
)
def test_what_is_wrong_is_named_in_a_few_lines(capsys, tmp_path, words, names):
    message = error_of(capsys, *command("mbml", tmp_path, *words))
    assert names in message
    assert len(message.splitlines()) < 12


def test_what_a_constructor_refuses_is_one_line(capsys, tmp_path):
    message = error_of(capsys, *command("sac", tmp_path, "--scale.interactions=300"))
    assert "data.interactions is 300, but only 200 steps are collected" in message
    assert len(message.splitlines()) < 5


def test_missing_phases_are_named(capsys, tmp_path, experiment):
    assert "sac/seed-0/data" in error_of(capsys, *command("bcq", tmp_path))
    data = f"--data.store={experiment}/sac/seed-0/data"
    assert "bcq/seed-0/last.ckpt" in error_of(capsys, *command("mbml", tmp_path, data))


def test_checkpoints_of_others_are_refused(capsys, tmp_path, experiment):
    bcq = experiment / "bcq/seed-0/last.ckpt"
    message = error_of(capsys, *command("mbml", experiment, "--ckpt_path", str(bcq), "--run", str(tmp_path)))
    assert "method is BCQ, MBML is needed" in message
    stranger = torch.load(bcq, weights_only=True)
    Checkpoint.seal(stranger, stranger["mbml"] | {"distribution": "UmazeGoalM"})
    torch.save(stranger, tmp_path / "stranger.ckpt")
    words = [f"--model.teachers={tmp_path}/stranger.ckpt", "--run", str(tmp_path)]
    message = error_of(capsys, *command("mbml", experiment, *words))
    assert "stranger.ckpt: distribution is UmazeGoalM, PointGoal is needed" in message


@pytest.mark.parametrize("content", [b"", b"garbage", b"PK\x03\x04"])
def test_damaged_checkpoints_are_named(capsys, tmp_path, experiment, content):
    (tmp_path / "broken.ckpt").write_bytes(content)
    words = ["--ckpt_path", str(tmp_path / "broken.ckpt"), "--run", str(tmp_path)]
    assert "broken.ckpt: damaged" in error_of(capsys, *command("bcq", experiment, *words))


def test_any_of_the_official_sets_can_be_evaluated(experiment, tmp_path):
    main(command("random", experiment, "--run", str(tmp_path), "--evaluation.splits=[test,ood]"))
    evaluation = Evaluation.load(tmp_path / "evaluation.json")
    assert {name: len(split.returns) for name, split in evaluation.splits.items()} == {"test": 4, "ood": 4}


@pytest.mark.parametrize(("threshold", "kept"), [(1e9, True), (0.0, False)])
def test_next_states_are_relabelled_where_a_threshold_asks_for_it(experiment, tmp_path, threshold, kept):
    words = [f"--task.next_state_threshold={threshold}", "--task.relabel_threshold=1e9", "--evaluation.splits=[]"]
    main(command("mbml", experiment, *words, "--run", str(tmp_path)))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/kept_fraction"] for line in lines if "train/kept_fraction" in line] == [kept]


def test_wandb_offline_by_one_flag(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    overlay = ["--trainer", str(ROOT / "conf/trainer/wandb.yaml"), f"--run={tmp_path}/run"]
    main(command("bcq", experiment, *overlay))
    assert list(tmp_path.glob("run/wandb/offline-run-*/*.wandb"))
    assert (tmp_path / "run/metrics.jsonl").is_file()


def test_help_names_every_command_and_section(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(name in " ".join(text.split()) for name in ("fit", "validate", "mbml report RUNS", "envs"))
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    text = capsys.readouterr().out
    assert "--task.relabel_threshold" in text and "--evaluation.trials" in text
    assert "Annotated[int, Ge(ge=1)" in text  # bounds are seen


def test_configs_name_no_machine():
    for path in ROOT.glob("conf/**/*.yaml"):
        assert not any(Path(word).is_absolute() for word in path.read_text().split())


def test_an_ensemble_of_another_distribution_is_refused(capsys, tmp_path, experiment):
    stranger = torch.load(experiment / "reward_ensemble/seed-0/last.ckpt", weights_only=True)
    Checkpoint.seal(stranger, stranger["mbml"] | {"distribution": "UmazeGoalM"})
    torch.save(stranger, tmp_path / "stranger.ckpt")
    words = [f"--model.relabeller.checkpoint={tmp_path}/stranger.ckpt", "--run", str(tmp_path)]
    message = error_of(capsys, *command("mbml", experiment, *words))
    assert "stranger.ckpt: distribution is UmazeGoalM, PointGoal is needed" in message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model=MBLM"], "model: there is no class MBLM: correct it, or give the path of your own"),
        (["--model.hooks.own=Nope"], "model.hooks.own: there is no class Nope: correct it"),
        (["--task", "nowhere.yaml"], "task: there is no such file: nowhere.yaml"),
        (
            ["--evaluation.protocols=random-first"],
            "protocols: random-first is no list: write [random-first]",
        ),
        (["--overwrite=maybe"], "overwrite: give true or false; give 'changed'"),
        (["--ckpt_path", "conf"], "ckpt_path: conf is no file: give the last.ckpt of a run, or `last`"),
    ],
)
def test_mistakes_are_said_in_plain_words(capsys, tmp_path, words, message):
    assert message in error_of(capsys, *command("mbml", tmp_path, *words))


def test_a_task_that_is_not_given_is_asked_for(capsys):
    assert "task: none is given: add --task conf/task/" in error_of(capsys, "fit", "-c", str(ROOT / "conf/mbml.yaml"))
