"""What arguments may be: every number has a bound, null is not a value, and the error says where it stands."""

import contextlib
import io
import math
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from commands import command
from lightning import LightningDataModule

from mbml_lightning.algorithms.bcq import BCQ
from mbml_lightning.algorithms.mbml import MBML
from mbml_lightning.cli.agreement import check_agreement
from mbml_lightning.cli.bounds import BOUNDS, Bound, bound_of, check_arguments, check_values, hints_of
from mbml_lightning.cli.main import MADE, main
from mbml_lightning.data.relabelling import Relabeller
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.objectives.hooks import StepHook
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.training.logger import JSONLLogger
from mbml_lightning.training.strategy import Ranks


def below(kind: type) -> list[type]:
    """All classes of the package that a configuration may ask for as ``kind``."""
    found = [kind, *(x for child in kind.__subclasses__() for x in below(child))]
    return [x for x in found if x.__module__.startswith("mbml_lightning")]


KINDS = [*MADE.values(), Ranks, JSONLLogger]
KINDS += [x for kind in (Algorithm, LightningDataModule, Relabeller, StepHook) for x in below(kind)]


def is_number(hint: Any) -> bool:
    return hint in (int, float) or any(is_number(x) for x in get_args(hint))


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_constructor_has_a_bound(kind):
    mine = {name for name, (hint, module) in hints_of(kind).items() if is_number(hint) and "mbml" in module}
    missing = sorted(name for name in mine if bound_of(name) is None)
    assert not missing, f"say in BOUNDS of mbml_lightning/arguments.py what {missing} of {kind.__name__} may be"


def test_no_name_of_the_table_is_forgotten_there():
    names = {"max_steps", "val_check_interval", "devices", "num_nodes", "seed_everything"}  # Lightning's own
    names |= {name for kind in KINDS for name in hints_of(kind)}
    assert all(any(name == known or name.endswith(f"_{known}") for name in names) for known in BOUNDS)


@pytest.mark.parametrize(
    ("bound", "good", "bad"),
    [
        (Bound(1, 5), [1, 5], {0: "at least 1", 6: "at most 5", 10**400: "at most 5"}),
        (Bound(0, 1, above=True), [1e-9, 1], {0: "above 0", math.inf: "a finite number"}),
        (Bound(0, math.inf), [0, 1e300], {-1: "at least 0", math.inf: "a finite number", math.nan: "a finite number"}),
    ],
)
def test_a_bound_has_two_ends(bound, good, bad):
    assert [bound.remedy(x) for x in good] == [None] * len(good)
    assert {x: bound.remedy(x) for x in bad} == bad


def test_the_longest_end_of_a_name_counts():
    assert bound_of("sac_lr") is BOUNDS["lr"] and bound_of("lr") is BOUNDS["lr"]
    assert bound_of("updates_per_block") is BOUNDS["updates_per_block"] and bound_of("bcq_updates") is BOUNDS["updates"]
    assert bound_of("margins") is None and bound_of("xlr") is None


def test_null_is_a_value_only_where_the_constructor_says_so():
    check_arguments("model", MBML, {"relabeller": None, "hooks": None, "num_tasks": None})
    for name in ("teachers", "lr", "z_dim", "encoder_hidden", "combine", "seed"):  # its own and its parents'
        with pytest.raises(ConfigurationError, match=rf"^model\.{name} is null, but must be given$"):
            check_arguments("model", MBML, {name: None})


@pytest.fixture(scope="module")
def configs():
    """Whole configurations of MBML and of SAC, whose task has 5 training tasks."""
    found = {}
    for method in ("mbml", "sac"):
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
            main(command(method, Path("nowhere"), "--print_config"))
        found[method] = yaml.safe_load(out.getvalue())
    return found


def changed(config: dict, path: str, value: Any) -> dict:
    config = deepcopy(config)
    *names, last = path.split(".")
    values = config
    for name in names:
        values = values[name]
        values = values.get("init_args", values)
    values[last] = value
    return config


def check(config: dict, trains: bool = True) -> None:
    check_values(config, MADE)
    check_agreement(config, trains)


def test_a_configuration_that_can_be_run_is_let_through(configs):
    for config in configs.values():
        check(config)
        check(config, trains=False)


@pytest.mark.parametrize(
    ("method", "path", "value", "remedy"),
    [
        ("mbml", "model.batch_size", -1, "at least 1"),
        ("mbml", "model.z_dim", None, "given"),
        ("mbml", "scale.q_hidden", [16, 0], "at least 1"),
        ("mbml", "scale.q_hidden", [16, None], "given"),
        ("mbml", "model.hooks.triplet.margin", -2.0, "at least 0"),
        ("mbml", "model.relabeller.threshold", math.nan, "a finite number"),
        ("mbml", "trainer.gradient_clip_val", math.inf, "a finite number"),
        ("mbml", "trainer.max_steps", None, "given"),
        ("mbml", "trainer.max_steps", -1, "at least 1"),
        ("mbml", "trainer.val_check_interval", 0, "at least 1"),
        ("mbml", "trainer.val_check_interval", "00:00:01:00", "a number of blocks"),
        ("mbml", "trainer.devices", 10**12, "at most 4,096"),
        ("mbml", "seed_everything", -1, "at least 0"),
        ("mbml", "run", "", "text"),
        ("mbml", "ckpt_path", " ", "text"),
        ("mbml", "model", None, "given"),
        ("mbml", "trainer", 1, "a section"),
        ("mbml", "model.teachers", "a\0b", "text"),
        ("mbml", "evaluation.splits", ["train", "tset"], "among train, test, ood"),
        ("mbml", "evaluation.uncounted", 5, "below evaluation.episodes, 5"),
        ("mbml", "data.distribution", "AntDir", "PointGoal, as elsewhere"),
        ("mbml", "model.num_tasks", 99, "at most 5, the train tasks of PointGoal"),
        ("mbml", "data.num_tasks", 3, "5, as elsewhere"),
        ("mbml", "data.split", "test", "train, as elsewhere"),
        ("mbml", "data.split", "tset", "among train, test, ood"),
        ("sac", "data.capacity", 199, "at least 200, model.warmup and trainer.max_steps together"),
    ],
)
def test_what_may_not_be_is_named_with_its_path(configs, method, path, value, remedy):
    with pytest.raises(ConfigurationError) as error:
        check(changed(configs[method], path, value))
    assert str(error.value).startswith(f"{path} is ") and str(error.value).endswith(f", but must be {remedy}")


@pytest.mark.parametrize("name", ["max_steps", "fast_dev_run"])
def test_more_than_is_collected_cannot_be_kept(configs, name):
    config = changed(configs["sac"], f"trainer.{name}", 50)
    with pytest.raises(ConfigurationError, match=r"data\.interactions is 200, but only 150 steps are collected"):
        check(config)
    check(config, trains=False)


def error_of(*words: str, method: str = "mbml", folder: Any = "nowhere") -> str:
    with pytest.raises(SystemExit) as stop:
        main(command(method, folder, *words))
    return str(stop.value.code)


def test_a_command_checks_before_it_makes_anything(tmp_path):
    assert error_of("--model.lr=null", folder=tmp_path) == "mbml: error: model.lr is null, but must be given"
    assert "scale.mbml_lr is nan" in error_of("--scale.mbml_lr=.nan")  # where it was given, not where it went
    assert not list(tmp_path.iterdir())


def test_a_method_learns_from_data_of_its_kind(tmp_path):
    online = ["--data=OnlineDataModule", "--data.interactions=20", "--data.capacity=20"]
    assert "data.class_path is OnlineDataModule, but must be OfflineDataModule" in error_of(*online, folder=tmp_path)
    with pytest.raises(SystemExit, match="Random has nothing to train: use `mbml validate`"):
        main(["fit", *command("random", tmp_path)[1:], "--trainer.max_steps=1"])


def test_what_others_raise_while_things_are_made_is_one_line_or_its_traceback(monkeypatch, tmp_path):
    words = ["--trainer.strategy=nothing"]
    assert "mbml: error: trainer: " in (message := error_of(*words, folder=tmp_path)) and "MBML_TRACEBACK=1" in message
    monkeypatch.setenv("MBML_TRACEBACK", "1")
    with pytest.raises(ConfigurationError) as error:
        main(command("mbml", tmp_path, *words))
    assert error.value.__cause__ is not None
    with pytest.raises(ConfigurationError, match="batch_size"):
        main(command("mbml", tmp_path, "--model.batch_size=-1"))


def test_a_training_that_an_argument_cuts_short_says_so(capsys, experiment, tmp_path):
    main(command("bcq", experiment, f"--run={tmp_path}", "--trainer.max_epochs=0", "--evaluation.splits=[]"))
    assert "mbml: an argument of the trainer ended the run after 0 of 20 updates" in capsys.readouterr().err


def test_an_error_inside_training_keeps_its_traceback(monkeypatch, experiment, tmp_path):
    def broken(self, batch):
        raise RuntimeError("a bug")

    monkeypatch.setattr(BCQ, "update", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(command("bcq", experiment, f"--run={tmp_path}"))
