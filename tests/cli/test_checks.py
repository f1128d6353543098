"""Every number has a bound, null is no value, sections agree: the error says where it stands and what to do."""

import contextlib
import io
import math
from copy import deepcopy
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import yaml
from commands import command
from lightning import LightningDataModule
from pydantic import TypeAdapter

from mbml_lightning.algorithms.bcq import BCQ
from mbml_lightning.algorithms.mbml import MBML
from mbml_lightning.arguments import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, Seed, UnitInterval
from mbml_lightning.cli.checks import check_agreement, check_arguments, check_values, hints_of
from mbml_lightning.cli.main import main
from mbml_lightning.cli.run import MADE
from mbml_lightning.data.relabelling import Relabeller
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.objectives.hooks import StepHook
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.training.logger import JSONLLogger
from mbml_lightning.training.strategy import UnwrappedDDP


def below(kind: type) -> list[type]:
    """All classes of the package that a configuration may ask for as ``kind``."""
    found = [kind, *(x for child in kind.__subclasses__() for x in below(child))]
    return [x for x in found if x.__module__.startswith("mbml_lightning")]


OURS = [kind for kind in MADE.values() if kind.__module__.startswith("mbml_lightning")]
KINDS = [*OURS, UnwrappedDDP, JSONLLogger]
KINDS += [x for kind in (Algorithm, LightningDataModule, Relabeller, StepHook) for x in below(kind)]


def unbounded(hint: Any) -> bool:
    """Whether a number without bounds is among what a hint allows."""
    return not hasattr(hint, "__metadata__") and (hint in (int, float) or any(unbounded(x) for x in get_args(hint)))


@pytest.mark.parametrize("kind", KINDS)
def test_every_number_of_a_constructor_has_a_bound(kind):
    makers = [vars(x)["__init__"] for x in kind.__mro__ if "__init__" in vars(x) and "mbml" in x.__module__]
    hints = {name: hint for maker in makers for name, hint in get_type_hints(maker, include_extras=True).items()}
    missing = sorted(name for name, hint in hints.items() if unbounded(hint))
    assert not missing, f"annotate {missing} of {kind.__name__} with a type of mbml_lightning/arguments.py"


@pytest.mark.parametrize(
    ("hint", "good", "bad"),
    [
        (PositiveInt, [1, 10**9], [0, -1, 10**9 + 1, 1.5, "many", None, math.nan]),
        (NonNegativeInt, [0, 5], [-1, 10**9 + 1]),
        (Seed, [0, 2**32 - 1], [-1, 2**32]),
        (PositiveFloat, [1e-300, 1, 1e300], [0.0, -1.0, math.inf, math.nan, None]),
        (NonNegativeFloat, [0.0, 1e300], [-1e-300, math.inf, -math.inf, math.nan]),
        (UnitInterval, [0.0, 0.5, 1], [-1e-9, 1 + 1e-9, math.nan, math.inf]),
    ],
)
def test_a_bound_has_two_ends(hint, good, bad):
    adapter = TypeAdapter(hint)
    assert [adapter.validate_python(x) for x in good] == good
    for value in bad:
        with pytest.raises(ValueError):
            adapter.validate_python(value)


def test_hints_are_those_of_the_class_and_of_its_parents():
    assert {"teachers", "relabeller", "lr", "num_tasks"} <= set(hints_of(MBML))


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
            main(command(method, Path("nowhere"), "--print_config=resolved"))
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
        ("mbml", "model.z_dim", None, "given"),
        ("mbml", "scale.q_hidden", [16, None], "given"),
        ("mbml", "model.relabeller.threshold", math.nan, "a finite number"),
        ("mbml", "trainer.gradient_clip_val", math.inf, "a finite number"),
        ("mbml", "trainer.max_steps", None, "given"),
        ("mbml", "trainer.max_steps", -1, "at least 1"),
        ("mbml", "trainer.val_check_interval", 0, "at least 1"),
        ("mbml", "trainer.val_check_interval", "00:00:01:00", "a number of blocks"),
        ("mbml", "trainer.devices", 10**12, "at most 4,096"),
        ("mbml", "run", "", "text"),
        ("mbml", "ckpt_path", " ", "text"),
        ("mbml", "model", None, "given"),
        ("mbml", "trainer", 1, "a section"),
        ("mbml", "model.teachers", "a\0b", "text"),
        ("mbml", "evaluation.splits", ["train", "tset"], "among train, test, ood"),
        ("mbml", "evaluation.uncounted", 5, "below evaluation.episodes, 5"),
        ("mbml", "data.distribution", "AntDir", "PointGoal, as elsewhere"),
        ("mbml", "model.num_tasks", 99, "at most 5, the train tasks of PointGoal"),
        ("mbml", "data.num_tasks", 3, "null, as elsewhere"),
        ("mbml", "data.split", "test", "train, as elsewhere"),
        ("mbml", "model.distribution", "AntDir", "PointGoal, as elsewhere"),
        ("sac", "model.split", "tset", "among train, test, ood"),
        ("sac", "data.capacity", 199, "at least 200, for model.warmup and trainer.max_steps"),
    ],
)
def test_what_may_not_be_is_named_with_its_path(configs, method, path, value, remedy):
    with pytest.raises(ConfigurationError) as error:
        check(changed(configs[method], path, value))
    assert str(error.value).startswith(f"{path} is ") and str(error.value).endswith(f", but must be {remedy}")


@pytest.mark.parametrize("seed", ["true", "false", "null", "some", "-1", "4294967296", "1.5"])
def test_a_seed_is_a_number(seed):
    message = error_of(f"--seed_everything={seed}")
    assert "seed_everything" in message and ("whole number" in message or "must be at " in message)
    assert "true or false" not in message


def test_more_than_is_collected_cannot_be_kept(configs):
    config = changed(configs["sac"], "trainer.max_steps", 50)
    with pytest.raises(ConfigurationError, match=r"data\.interactions is 200, but only 150 steps are collected"):
        check(config)
    check(config, trains=False)


def error_of(*words: str, method: str = "mbml", folder: Any = "nowhere") -> str:
    errors = io.StringIO()
    with contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        main(command(method, folder, *words))
    return errors.getvalue() if stop.value.code == 2 else str(stop.value.code)


@pytest.mark.parametrize(
    ("word", "path", "remedy"),
    [
        ("--model.batch_size=-1", "model.batch_size", "greater than or equal to 1: '-1'"),
        ("--scale.q_hidden=[16,0]", "scale.q_hidden", "greater than or equal to 1: 0"),
        ("--model.num_tasks=0", "model.num_tasks", "greater than or equal to 1: '0'"),
        ("--model.phi=1.5", "model.phi", "less than or equal to 1: '1.5'"),
        ("--model.hooks.triplet.margin=-2", "model.hooks.triplet.margin", "greater than or equal to 0: '-2'"),
        ("--model.relabeller.threshold=-1", "model.relabeller.threshold", "greater than or equal to 0: '-1'"),
        ("--scale.mbml_updates=many", "scale.mbml_updates", "unable to parse string as an integer: 'many'"),
        ("--evaluation.trials=0", "evaluation.trials", "greater than or equal to 1: '0'"),
        ("--model.lrr=1", "model.lrr", "Option 'lrr' is not accepted"),
    ],
)
def test_the_parser_refuses_a_number_in_one_line_with_its_path(tmp_path, word, path, remedy):
    line, hint = error_of(word, folder=tmp_path).splitlines()
    assert f" fit: error: {path}: " in line and line.endswith(remedy) and hint.endswith(" fit --help'.")
    assert not list(tmp_path.iterdir())


def test_a_number_in_a_file_is_named_with_its_path(tmp_path):
    (tmp_path / "more.yaml").write_text("scale:\n  mbml_lr: .nan\n")
    assert "error: scale.mbml_lr: Input should be" in error_of("-c", str(tmp_path / "more.yaml"))


def test_a_mistake_in_the_syntax_of_a_file_is_named_with_the_file_and_the_line(tmp_path):
    (tmp_path / "more.yaml").write_text("model:\n  init_args: [\n")
    message = error_of("-c", str(tmp_path / "more.yaml"))
    assert 'more.yaml", line 3' in message and len(message.splitlines()) == 2


def test_a_command_checks_before_it_makes_anything(tmp_path):
    assert error_of("--model.lr=null", folder=tmp_path) == "mbml: error: model.lr is null, but must be given"
    assert "error: scale.mbml_lr: " in error_of("--scale.mbml_lr=.nan")  # where it was given, not where it went
    assert not list(tmp_path.iterdir())


def test_a_method_learns_from_data_of_its_kind(tmp_path):
    online = ["--data=OnlineDataModule", "--data.interactions=20", "--data.capacity=20"]
    assert "data.class_path is OnlineDataModule, but must be OfflineDataModule" in error_of(*online, folder=tmp_path)
    with pytest.raises(SystemExit, match="Random has nothing to train: use `mbml validate`"):
        main(["fit", *command("random", tmp_path)[1:], "--trainer.max_steps=1"])


def test_what_others_raise_while_things_are_made_is_one_line_or_its_traceback(monkeypatch, tmp_path):
    words = ["--trainer.accelerator=nothing"]
    assert "mbml: error: trainer: " in (message := error_of(*words, folder=tmp_path)) and "MBML_TRACEBACK=1" in message
    monkeypatch.setenv("MBML_TRACEBACK", "1")
    with pytest.raises(ConfigurationError) as error:
        main(command("mbml", tmp_path, *words))
    assert error.value.__cause__ is not None
    with pytest.raises(ConfigurationError, match="tset"):
        main(command("mbml", tmp_path, "--evaluation.splits=[tset]"))


def test_a_training_that_an_argument_cuts_short_says_so(capsys, experiment, tmp_path):
    timer = ["--trainer.callbacks+=lightning.pytorch.callbacks.Timer", "--trainer.callbacks.duration=00:00:00:00"]
    main(command("bcq", experiment, f"--run={tmp_path}", *timer, "--evaluation.splits=[]"))
    assert "mbml: a callback ended the run after 0 of 20 updates" in capsys.readouterr().err


def test_an_error_inside_training_keeps_its_traceback(monkeypatch, experiment, tmp_path):
    def broken(self, batch):
        raise RuntimeError("a bug")

    monkeypatch.setattr(BCQ, "update", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        main(command("bcq", experiment, f"--run={tmp_path}"))


@pytest.mark.parametrize("precision", ["16-mixed", "64-true", "bf16-true", "16-true"])
def test_a_precision_that_cannot_work_is_refused_with_those_that_do(precision):
    message = error_of(f"--trainer.precision={precision}")
    assert f"trainer.precision is '{precision}', but must be 32-true or bf16-mixed" in message
