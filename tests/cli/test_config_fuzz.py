"""A configuration with mistakes runs or is refused in a few lines: no traceback, no hang, nothing used unseen."""

import contextlib
import io
import math
import shutil
import signal
import tempfile
import warnings
from copy import deepcopy
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from commands import command
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st

from mbml_lightning.cli.main import main

BASES = ["bcq", "mbml", "sac", "multi_task_bc", "random"]
READ = ["sac/seed-0/data", "sac/seed-0/last.ckpt", "bcq/seed-0/last.ckpt", "reward_ensemble/seed-0/last.ckpt"]
"""What they read of an experiment."""
SMALL = ["trials=1", "trials_while_training=1", "episodes=2", "uncounted=1", "splits=[train]"]
SECONDS = 20
"""After so many an example hangs; it takes a fraction of one."""

HUGE = [10**12, -(10**12), 2**63, 10**40, 10**400, 1e300, -1e300]
"""Every count ends at a billion, so that nothing runs for ever: no argument is left out."""
REFUSED = [math.nan, math.inf, -math.inf, "${nowhere}", "${", "${run", "${blocks:a}", "${nothing:1}", "\n"]
"""Wrong wherever they stand."""
VALUES = [
    *(None, True, False, 0, 1, -1, 2, 0.0, 0.5, -0.5, 1e-300),
    *("", " ", "no", "1", "1e400", "train", "test", "null", "x" * 5000, "$(id)", ".."),
    *([], {}, [None], [[]], [1], [0], [-1], [1, "a"], ["train", "train"], {"a": 1}, {"class_path": None}),
    *("${oc.env:NOWHERE}", "${oc.decode:${run}}", "${model}", "${.}", "${}", "${blocks:1,0}"),
    *("UmazeGoalM", "PointGoal+x=1", "/dev/null", "/dev/null/x", "experiment/bcq/seed-0/last.ckpt"),
]
DANGEROUS = [
    "os.system",
    "builtins.eval",
    "builtins.exec",
    "subprocess.Popen",
    "nowhere.Class",
    "Nowhere",
    "os",
    "a..b",
]
CLASSES = [
    *("BCQ", "MBML", "SAC", "Random", "MultiTaskBC", "TransitionEnsemble", "ContextualBCQ", "lightning.Trainer"),
    *("OnlineDataModule", "OfflineDataModule", "lightning.LightningModule", "lightning.LightningDataModule"),
    *("OracleRelabeller", "EnsembleRelabeller", "RelabelledTriplet", "FOCAL", "HardMiningTriplet", "torch.nn.Linear"),
    *("mbml_lightning.training.algorithm.Algorithm", "mbml_lightning.objectives.hooks.StepHook"),
    *("mbml_lightning.training.strategy.UnwrappedDDP", "mbml_lightning.training.logger.JSONLLogger"),
]
LINES = [
    "x: !!python/object/apply:os.system ['touch mark']",
    "run: !!python/object/apply:pathlib.Path.touch ['mark']",
    "model: !!python/name:os.system",
    "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b]\nrun: [*c,*c,*c,*c,*c]",
    *(
        "run: &a [*a]",
        "model: *nowhere",
        "<<: *a",
        "\trun: run",
        "run: 'run",
        "- run",
        "---",
        "? run",
        "\x00",
        "\ud800",
    ),
]


class Document(NamedTuple):
    """A configuration, and whether there is no way that it could be right."""

    command: str
    text: str
    wrong: bool = False


def parsed(text: str) -> Any:
    return yaml.load(text, yaml.CSafeLoader)


# Mutations of a parsed document.


def nodes(tree: Any, path: tuple = ()) -> list[tuple]:
    """Paths of all that a document holds."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [found for key, value in items for found in ((*path, key), *nodes(value, (*path, key)))]


def holder(tree: Any, path: tuple) -> Any:
    for key in path[:-1]:
        tree = tree[key]
    return tree


def delete(draw, tree: Any) -> bool:
    path = draw(st.sampled_from(nodes(tree)))
    del holder(tree, path)[path[-1]]
    return False


def misspell(draw, tree: Any) -> bool:
    path = draw(st.sampled_from([path for path in nodes(tree) if isinstance(path[-1], str)]))
    name, place, letter = path[-1], draw(st.integers(0, len(path[-1]) - 1)), draw(st.sampled_from(["", "x", "_", "."]))
    values = holder(tree, path)
    values[name[:place] + letter + name[place + 1 :]] = values.pop(name)
    return not {"hooks", "collectors"} & set(path[:-1]) and letter != name[place]


def replace(draw, tree: Any) -> bool:
    path, value = draw(st.sampled_from(nodes(tree))), draw(st.sampled_from(VALUES + HUGE + REFUSED))
    holder(tree, path)[path[-1]] = deepcopy(value)
    return any(value is x for x in REFUSED)


def of_another_class(draw, tree: Any) -> bool:
    paths = nodes(tree)
    made = [path[:-1] for path in paths if path[-1] == "class_path"]
    path = draw(st.sampled_from(made + made + paths))
    name = draw(st.sampled_from(CLASSES + DANGEROUS))
    arguments = draw(st.sampled_from([{}, {"distribution": "PointGoal"}, None]))
    old = holder(tree, path)[path[-1]]
    arguments = old.get("init_args", {}) if arguments is None and isinstance(old, dict) else arguments
    holder(tree, path)[path[-1]] = {"class_path": name, "init_args": arguments}
    return name in DANGEROUS


def swap(draw, tree: Any) -> bool:
    one, other = (draw(st.sampled_from(nodes(tree))) for _ in range(2))
    if one != other[: len(one)] and other != one[: len(other)]:
        (a, i), (b, j) = ((holder(tree, path), path[-1]) for path in (one, other))
        a[i], b[j] = b[j], a[i]
    return False


# Mutations of the text.


def flip(draw, text: str) -> str:
    place = draw(st.integers(0, len(text) - 1))
    return (
        text[:place] + draw(st.sampled_from([*"x0-9:.#'\"[]{}&*!|>%@`, \n\t", "\x00", "\xff", "é"])) + text[place + 1 :]
    )


def truncate(draw, text: str) -> str:
    return text[: draw(st.integers(0, len(text)))]


def repeat(draw, text: str) -> str:
    lines = text.split("\n")
    place = draw(st.integers(0, len(lines) - 1))
    return "\n".join([*lines[:place], *([lines[place]] * draw(st.sampled_from([0, 2]))), *lines[place + 1 :]])


def insert(draw, text: str) -> str:
    lines = text.split("\n")
    place = draw(st.sampled_from([0, len(lines)]) | st.integers(0, len(lines)))
    return "\n".join([*lines[:place], draw(st.sampled_from(LINES)), *lines[place:]])


@st.composite
def documents(draw, bases: list[Document]) -> Document:
    base = draw(st.sampled_from(bases))
    if draw(st.sampled_from(["tree", "tree", "tree", "text"])) == "text":
        text = draw(st.sampled_from([flip, truncate, repeat, insert]))(draw, base.text)
        assume(text != base.text)
        return base._replace(text=text)
    tree, whole = parsed(base.text), parsed(base.text)
    wrong = draw(st.sampled_from([delete, misspell, replace, replace, replace, of_another_class, swap]))(draw, tree)
    assume(tree != whole)
    return base._replace(text=yaml.dump(tree, Dumper=yaml.CSafeDumper), wrong=wrong)


# What a user sees.


class Hangs(BaseException):
    """Not an Exception, so that nobody answers it."""


def hang(*_):
    raise Hangs


@pytest.fixture(scope="module")
def bases(experiment):
    """Whole configurations, in which all folders are below the working directory."""
    more = [f"--evaluation.{word}" for word in SMALL] + ["--sensitivity.contexts=1", "--run=run", "--print_config"]
    documents = []
    for name in BASES:
        sizes = [] if name == "random" else ["--trainer.max_steps=5", "--model.updates_per_block=5"]
        sizes += ["--model.warmup=20", "--data.capacity=25", "--data.interactions=25"] if name == "sac" else []
        with contextlib.redirect_stdout(io.StringIO()) as out, pytest.raises(SystemExit):
            main(command(name, Path("experiment"), *more, *sizes))
        documents.append(Document("validate" if name == "random" else "fit", out.getvalue()))
    return documents


@contextlib.contextmanager
def a_folder_with(experiment):
    """A working directory so deep that `..` is in it, too."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        here = Path(folder, "some/where")
        for part in READ:
            copy = shutil.copytree if (experiment / part).is_dir() else shutil.copy
            (here / "experiment" / part).parent.mkdir(parents=True, exist_ok=True)
            copy(experiment / part, here / "experiment" / part)
        stack.enter_context(contextlib.chdir(here))
        yield here


def ending(document: Document, experiment: Path) -> str | None:
    """The message with which the command ends, None if it did what it was asked for."""
    error = io.StringIO()
    with a_folder_with(experiment), contextlib.redirect_stderr(error), contextlib.redirect_stdout(io.StringIO()):
        Path("config.yaml").write_bytes(document.text.encode(errors="surrogatepass"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = signal.signal(signal.SIGALRM, hang)
            signal.setitimer(signal.ITIMER_REAL, SECONDS)
            try:
                main([document.command, "-c", "config.yaml"])
            except SystemExit as end:
                return (
                    None
                    if end.code in (None, 0)
                    else f"{error.getvalue()}{end.code if isinstance(end.code, str) else ''}"
                )
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
                signal.signal(signal.SIGALRM, before)
                assert not Path("mark").exists(), "the configuration ran code"
    return None


def check(document: Document, experiment: Path) -> None:
    message = ending(document, experiment)
    event("runs" if message is None else "refused")
    assert message is not None or not document.wrong, "a mistake was not seen"
    if message is not None:
        assert ": error: " in message and "Traceback" not in message
        assert len(message.splitlines()) < 12 and len(message) < 1500


pytestmark = pytest.mark.timeout(1800, method="thread")  # the alarm is ours


def test_the_configurations_run_before_they_are_changed(bases, experiment):
    assert [ending(base, experiment) for base in bases] == [None] * len(BASES)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_a_configuration_with_a_mistake_runs_or_is_refused(bases, experiment, data):
    check(data.draw(documents(bases)), experiment)


@pytest.mark.fuzz
@settings(max_examples=1000, deadline=None, print_blob=True)
@given(st.data())
def test_a_thousand_configurations_with_mistakes(bases, experiment, data):
    check(data.draw(documents(bases)), experiment)
