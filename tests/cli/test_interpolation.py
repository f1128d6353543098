"""Saved configurations: an override through one reaches all that the same override reaches through the files."""

import pytest
from commands import ROOT, TINY, command
from omegaconf import OmegaConf

from mbml_lightning.cli.interpolation import overridden
from mbml_lightning.cli.main import main

EXPERIMENT = "runs/PointGoal-tiny"
SOURCES = [
    ["--seed_everything=3"],
    ["--run=elsewhere"],
    ["--experiment=other"],
    ["--method=mine"],
    ["--scale.name=mine"],
    ["--scale.mbml_lr=0.5"],
    ["--scale.context_size=7"],
    ["--scale.context_window=9"],
    ["--scale.phi=0.2"],
    ["--scale.ema_decay=0.5"],
    ["--scale.mbml_updates=30"],
    ["--scale.evaluate_every=500"],
    ["--scale.trials_while_training=3"],
    ["--scale", str(ROOT / "conf/scale/laptop.yaml")],
    ["--task.relabel_threshold=0.7"],
    ["--task.distribution=AntDir"],
    ["--task", str(ROOT / "conf/task/walker_param.yaml")],
    ["--model.num_tasks=3"],
    ["--model.updates_per_block=10"],
    ["--model.hooks.triplet.margin=8"],
    ["--model.lr=0.01", "--sweep=auto"],
    ["-c", str(ROOT / "conf/ablation/neither.yaml")],
    ["-c", str(ROOT / "conf/ablation/focal.yaml"), "--model.hooks.focal.weight=2"],
    ["--trainer", str(ROOT / "conf/trainer/wandb.yaml"), "--seed_everything=5"],
    ["--trainer.logger+=lightning.pytorch.loggers.CSVLogger", "--trainer.logger.save_dir=${run}"],
]


def printed(capsys, *words: str, form: str = "--print_config") -> str:
    """The configuration that a command prints in place of running."""
    with pytest.raises(SystemExit) as stop:
        main([*words, form])
    assert stop.value.code == 0, stop.value.code
    return capsys.readouterr().out


@pytest.mark.parametrize("source", SOURCES, ids=" ".join)
def test_an_override_through_a_saved_file_is_one_through_the_original_files(capsys, tmp_path, source):
    files = ["fit", "-c", str(ROOT / "conf/mbml.yaml"), *TINY]
    (tmp_path / "config.yaml").write_text(printed(capsys, *files))
    saved = ["fit", "-c", str(tmp_path / "config.yaml")]
    expected = printed(capsys, *files, *source, form="--print_config=resolved")
    assert printed(capsys, *saved, *source, form="--print_config=resolved") == expected
    assert expected != printed(capsys, *files, form="--print_config=resolved")


@pytest.mark.parametrize("phase", ["sac", "bcq", "reward_ensemble", "next_state_ensemble", "contextual_bcq", "pearl"])
def test_every_phase_follows_seed_and_folder_through_its_saved_file(capsys, tmp_path, phase):
    _, *words = command(phase, tmp_path)
    (tmp_path / "config.yaml").write_text(printed(capsys, "fit", *words))
    values = OmegaConf.create(
        printed(capsys, "fit", "-c", f"{tmp_path}/config.yaml", "--seed_everything=3", form="--print_config=resolved")
    )
    assert values.model.init_args.seed == 3
    folder = f"{tmp_path}/{phase}/seed-3"
    assert [values.run, values.evaluation.folder, values.checkpoint.dirpath, values.sensitivity.folder] == [folder] * 4
    assert values.trainer.logger.init_args.save_dir == folder
    assert values.data.init_args.store == f"{tmp_path}/sac/seed-3/data"


def test_what_is_printed_keeps_interpolations_and_resolved_shows_values(capsys):
    files = ["fit", "-c", str(ROOT / "conf/mbml.yaml"), *TINY]
    kept = OmegaConf.to_container(OmegaConf.create(printed(capsys, *files)))
    assert kept["model"]["init_args"]["lr"] == "${scale.mbml_lr}"
    assert kept["run"] == "${experiment}/${method}${swept:}/seed-${seed_everything}"
    assert "${" not in printed(capsys, *files, form="--print_config=resolved")


def test_another_form_of_printing_is_refused_with_the_two_that_there_are():
    with pytest.raises(SystemExit, match="--print_config=values: give --print_config, or --print_config=resolved"):
        main(["fit", "-c", str(ROOT / "conf/mbml.yaml"), *TINY, "--print_config=values"])


def test_a_source_that_is_not_there_is_named():
    with pytest.raises(SystemExit, match="nowhere"):
        main(command("mbml", ROOT, "--model.lr=${nowhere}"))


@pytest.mark.parametrize(
    ("words", "folder"),
    [
        (["--model.lr=0.01", "--sweep=auto"], "mbml,model.lr=0.01"),
        (["--model.lr", "0.01", "--sweep", "auto", "--evaluation.trials=4"], "mbml,model.lr=0.01,evaluation.trials=4"),
        (["--model.hooks.triplet.margin=8", "--sweep=auto"], "mbml,model.hooks.triplet.margin=8.0"),
        (["--scale.q_hidden=[8,8]", "--sweep=auto"], "mbml,scale.q_hidden=8-8"),
        (["--sweep=[model.kl_weight]"], "mbml,model.kl_weight=0.1"),
        (["--model.relabeller=OracleRelabeller", "--sweep=auto"], "mbml,model.relabeller=OracleRelabeller"),
        (["--sweep=auto"], "mbml"),
        (["--seed_everything=2", "--trainer.max_time=00:00:01:00", "--sweep=auto"], "mbml"),
    ],
)
def test_a_sweep_gives_every_trial_a_folder_of_its_own(capsys, words, folder):
    files = ["fit", "-c", str(ROOT / "conf/mbml.yaml"), *TINY, "--experiment=e"]
    run = OmegaConf.create(printed(capsys, *files, *words, form="--print_config=resolved")).run
    assert run.rpartition("/")[0] == f"e/{folder}"


def test_a_sweep_over_nothing_that_there_is_names_it():
    with pytest.raises(SystemExit, match=r"sweep: there is no argument model\.lrr"):
        main(command("mbml", ROOT, "--sweep=[model.lrr]"))


def test_only_single_arguments_of_a_run_name_it():
    words = [
        "fit",
        "-c",
        "x.yaml",
        "--task",
        "t.yaml",
        "--run=r",
        "--model.lr=1",
        "--model.lr=2",
        "--trainer.devices=2",
    ]
    assert overridden([*words, "--data.store", "d", "--model.hooks+=x"]) == ["model.lr", "data.store", "model.hooks"]
