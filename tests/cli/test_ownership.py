"""A run's folder has an owner: no command replaces the results of another run, and no two work in it at once."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import ROOT, command

from mbml_lightning.cli.main import main
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.configuration import difference
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.files.run_folder import FILES, clear, found, held, locked

SAME = ["--evaluation.trials=2"]  # as the experiment has them
FEW = ["--evaluation.trials=1", "--scale.trials_while_training=1"]


def content(folder: Path) -> dict[str, str]:
    """The hash of every file of a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def copied(experiment, tmp_path) -> Path:
    """A copy of the experiment with a run of each phase."""
    return Path(shutil.copytree(experiment, tmp_path / "experiment"))


@pytest.fixture
def mbml(copied) -> Path:
    return copied / "mbml/seed-0"


def refused(*words: str) -> str:
    """The one line with which a command is refused."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert isinstance(stop.value.code, str) and "\n" not in stop.value.code
    return stop.value.code


def test_a_validation_without_weights_is_refused(mbml):
    before = content(mbml)
    message = refused("validate", "-c", f"{mbml}/config.yaml", f"--experiment={mbml.parent.parent}")
    assert f"`--ckpt_path last` takes {mbml}/last.ckpt" in message
    assert content(mbml) == before


def test_random_actions_need_no_weights(copied):
    main([*command("random", copied), "--evaluation.trials=1", f"--run={copied}/again"])
    assert Evaluation.load(copied / "again/evaluation.json").method == "Random"


@pytest.mark.parametrize("phase", ["mbml", "sac", "bcq"])
@pytest.mark.parametrize("blocks", ["true", "2"])
def test_a_trial_of_a_few_blocks_writes_nothing(copied, phase, blocks):
    before = content(copied)
    main([*command(phase, copied), f"--trainer.fast_dev_run={blocks}"])
    assert content(copied) == before


def test_a_run_of_another_configuration_is_refused_with_the_first_difference_and_three_ways_on(copied, mbml):
    before = content(copied)
    message = refused(*command("mbml", copied, "--model.lr=1e-2", *SAME))
    assert f"{mbml}: holds a run of another configuration (model.lr is 0.0003 there and 0.01 here)" in message
    assert all(way in message for way in ("--ckpt_path last", "another --run", "--overwrite"))
    assert content(copied) == before


@pytest.mark.parametrize("word", ["--evaluation.trials=3", "--trainer.max_steps=40", "--seed_everything=1"])
def test_all_that_a_run_leaves_tells_it_from_others(copied, mbml, word):
    message = refused(
        *command("mbml", copied, *SAME, word, f"--run={mbml}", f"--model.teachers={copied}/bcq/seed-0/last.ckpt")
    )
    assert f"({word[2:].partition('=')[0]} is " in message


@pytest.mark.parametrize("phase", ["mbml", "sac"])
def test_a_finished_run_is_left_alone(capsys, copied, phase):
    before = content(copied)
    with pytest.raises(SystemExit) as stop:
        main(command(phase, copied, *SAME))
    assert stop.value.code in (None, 0)
    assert f"{copied}/{phase}/seed-0 holds this run already, finished" in capsys.readouterr().out
    assert content(copied) == before


def test_an_unfinished_run_is_not_begun_anew_by_accident(copied):
    run = copied / "bcq/seed-0"
    words = command("bcq", copied, *FEW)
    main([*words, "--overwrite", "--trainer.max_steps=10"])
    assert "(trainer.max_steps is 10 there and 20 here)" in refused(*words)
    shutil.copy(run / "last.ckpt", copied / "ten.ckpt")
    main([*words, "--ckpt_path=last"])
    assert held(run).updates == 20
    (run / "evaluation.json").unlink()
    assert "holds this run, 20 of 20 updates done: give --ckpt_path last" in refused(*words)
    main([*words, "--ckpt_path=last"])
    assert (run / "evaluation.json").exists()


def test_overwriting_leaves_nothing_of_the_earlier_run(copied, mbml):
    (mbml / "notes.txt").write_text("mine")
    main(command("mbml", copied, "--model.lr=1e-2", "--overwrite", *FEW, "--evaluation.splits=[test]"))
    lines = [json.loads(line) for line in (mbml / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/q_loss" in line] == [20]
    assert set(Evaluation.load(mbml / "evaluation.json").splits) == {"test"}
    assert "lr: 0.01" in (mbml / "config.yaml").read_text()
    assert (mbml / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize(
    "word", ["--data.store=nowhere", "--model.teachers=nowhere.ckpt", "--model.hooks.triplet.margin=-1"]
)
def test_overwriting_with_a_mistake_loses_nothing(copied, mbml, word):
    before = content(copied)
    with pytest.raises(SystemExit):
        main(command("mbml", copied, "--overwrite", word))
    assert content(copied) == before


def test_a_resumption_that_is_refused_changes_nothing(copied, mbml):
    before = content(copied)
    message = refused(*command("mbml", copied, "--ckpt_path=last", "--model.hooks.triplet.margin=8"))
    assert "hooks.triplet.margin was 2.0 and is 8.0" in message
    shutil.copy(copied / "bcq/seed-0/last.ckpt", copied / "other.ckpt")
    other = Checkpoint.read(copied / "other.ckpt")
    other.state_dict["phi"] = next(iter(other.state_dict.values())).clone()  # other weights
    refused(*command("mbml", copied, "--ckpt_path=nowhere.ckpt"))
    (copied / "other.ckpt").unlink()
    assert content(copied) == before


def test_changed_begins_another_run_anew_and_goes_on_with_this_one(copied, mbml):
    words = command("mbml", copied, "--ckpt_path=last", "--overwrite=changed", *FEW)
    main(words)
    assert Evaluation.load(mbml / "evaluation.json").trials == 1  # the trials are another configuration's
    before = content(mbml)
    main(words)
    assert content(mbml) == before
    main([*words, "--model.lr=0.01"])
    assert held(mbml).config["model"]["init_args"]["lr"] == 0.01


def test_changed_notices_other_teachers_and_other_data(copied, mbml):
    main(command("bcq", copied, "--overwrite", "--model.lr=0.01", *FEW))
    words = command("mbml", copied, "--ckpt_path=last", "--overwrite=changed")
    teachers = Checkpoint.read(copied / "bcq/seed-0/last.ckpt").digest
    assert teachers not in Checkpoint.read(mbml / "last.ckpt").record["parents"].values()
    main(words)
    assert teachers in Checkpoint.read(mbml / "last.ckpt").record["parents"].values()
    main(command("sac", copied, "--overwrite", "--model.lr=0.01", *FEW))
    main(command("bcq", copied, "--ckpt_path=last", "--overwrite=changed", "--model.lr=0.01", *FEW))
    assert Checkpoint.read(copied / "bcq/seed-0/last.ckpt").digest != teachers


def test_data_of_another_run_are_not_replaced(copied, tmp_path):
    before = content(copied)
    message = refused(*command("sac", copied, f"--run={tmp_path}/new", f"--data.store={copied}/sac/seed-0/data"))
    assert "holds data already: give another --data.store, or --overwrite" in message
    assert content(copied) == before


def test_results_without_their_configuration_are_nobodys(copied, mbml):
    for name in ("last.ckpt", "config.yaml"):
        (mbml / name).unlink()
    assert "holds results without the config.yaml" in refused(*command("mbml", copied))


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(copied, mbml):
    whole = content(mbml)
    (mbml / "last.ckpt").unlink()
    main(command("mbml", copied, *SAME))
    assert {n: h for n, h in content(mbml).items() if n != "metrics.jsonl"}.keys() == whole.keys() - {"metrics.jsonl"}
    lines = [json.loads(line) for line in (mbml / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines if "train/q_loss" in line] == [20]  # once


def test_an_evaluation_lands_beside_its_weights_wherever_they_were_moved(copied, tmp_path):
    moved = Path(shutil.move(copied, tmp_path / "moved")) / "mbml/seed-0"
    main(["validate", "-c", f"{moved}/config.yaml", f"--ckpt_path={moved}/last.ckpt", "--evaluation.splits=[ood]"])
    assert "ood" in Evaluation.load(moved / "evaluation.json").splits
    assert not copied.exists()


def test_two_processes_at_once_are_refused_and_a_killed_one_leaves_no_lock(mbml, copied):
    script = "import sys, time; from pathlib import Path; from mbml_lightning.files.run_folder import locked\n"
    script += f"with locked(Path({str(mbml)!r})):\n    print('in', flush=True)\n    time.sleep(60)"
    holder = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        assert holder.stdout.readline() == "in\n"
        before = content(mbml)
        words = command("mbml", copied, "--overwrite", *FEW)
        assert f"{mbml}: another process works here: wait for it, or give another --run" in refused(*words)
        assert content(mbml) == before
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.communicate()
    time.sleep(0.1)
    with locked(mbml):
        pass


def test_a_lock_is_free_again_after_an_error(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path):
        pass


def test_clearing_takes_what_is_a_runs_and_nothing_else(tmp_path):
    (tmp_path / "data/task-00").mkdir(parents=True)
    for name in ("last.ckpt", "evaluation-offline-own.json", "trajectories.npz", "mine.txt", "data/task-00/meta.json"):
        (tmp_path / name).touch()
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert found(tmp_path, FILES) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model": {"init_args": {"lr": 1.0}}}, "model.lr is 2.0 there and 1.0 here"),
        ({"model": {"init_args": {"lr": 2.0, "phi": None}}}, None),  # an argument without a value
        ({"model": {"init_args": {"lr": 2.0, "teachers": "elsewhere"}}}, None),
        ({"evaluation": {"trials": 8, "folder": "elsewhere", "copies": 3}}, None),
        ({"evaluation": {"trials": 2, "folder": "here"}}, "evaluation.trials is 8 there and 2 here"),
        ({"trainer": {"max_steps": 5, "devices": 2}}, None),
        ({"trainer": {"max_steps": 6}}, "trainer.max_steps is 5 there and 6 here"),
        ({"seed_everything": 1}, "seed_everything is 0 there and 1 here"),
        ({"run": "elsewhere", "experiment": "other"}, None),
    ],
)
def test_the_first_argument_that_makes_another_run_is_named(change, named):
    before = {
        "seed_everything": 0,
        "run": "here",
        "model": {"class_path": "A", "init_args": {"lr": 2.0, "teachers": "here"}},
        "evaluation": {"trials": 8, "folder": "here"},
        "trainer": {"max_steps": 5, "devices": 1},
    }
    if "model" in change:
        change = {"model": {"class_path": "A"} | change["model"]}
    assert difference(before, before | change) == named


def test_a_short_look_at_a_finished_run_keeps_its_scores(capsys, copied, mbml):
    before = content(mbml)
    words = ["validate", "-c", f"{mbml}/config.yaml", f"--ckpt_path={mbml}/last.ckpt"]
    main([*words, "--evaluation.splits=[train]", "--evaluation.trials=1"])
    told = capsys.readouterr().out
    assert "(1 trial a task)" in told and "has trials 2, this one 1, and stays" in told
    after = content(mbml)
    assert {name: after[name] for name in before} == before
    assert {Path(name).parts[0] for name in after.keys() - before.keys()} == {"validations"}


def test_other_splits_and_protocols_are_added(capsys, copied, mbml):
    before = Evaluation.load(mbml / "evaluation.json")
    words = ["validate", "-c", f"{mbml}/config.yaml", f"--ckpt_path={mbml}/last.ckpt"]
    main([*words, "--evaluation.splits=[ood]"])
    main([*words, "--evaluation.protocols=[random-first]"])
    after = Evaluation.load(mbml / "evaluation.json")
    assert list(after.splits) == [*before.splits, "ood"]
    for name, split in before.splits.items():
        assert (after.splits[name].returns == split.returns).all()
    assert Evaluation.load(mbml / "evaluation-random-first.json").protocol == "random-first"
    assert f"in {mbml}/evaluation-random-first.json" in capsys.readouterr().out


def test_other_weights_take_nothings_place(copied, mbml):
    before = content(mbml)
    other = ["-c", f"{mbml}/config.yaml", f"--run={mbml}", f"--ckpt_path={copied}/neither/seed-0/last.ckpt"]
    main(["validate", *other, f"--experiment={copied}"])
    after = content(mbml)
    assert {name: after[name] for name in before} == before
    assert len(list((mbml / "validations").glob("*.json"))) == 1


def test_a_training_ends_with_its_score_and_the_file(capsys, copied):
    main(command("bcq", copied, "--overwrite", *FEW))
    told = capsys.readouterr().out
    assert "BCQ, prior-online: return train " in told and f"in {copied}/bcq/seed-0/evaluation.json" in told
