"""Classes of a user's own module are named by their path in a configuration, without a change to the package."""

import json
import subprocess
import sys
from importlib import import_module
from pkgutil import iter_modules

import pytest
from commands import ROOT, command

from mbml_lightning import objectives
from mbml_lightning.cli.main import main
from mbml_lightning.objectives.hooks import StepHook

MODULE = '''
from pathlib import Path
from lightning import Callback
from torch import Tensor
from mbml_lightning.algorithms import MultiTaskBC
from mbml_lightning.objectives.triplet import RelabelledTriplet


class Hook(RelabelledTriplet):
    """A triplet under another name."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__(weight=scale)


class Cloning(MultiTaskBC):
    """Behaviour cloning that doubles what it logs."""

    def __init__(self, distribution: str, doubled: bool = False, **kwargs) -> None:
        super().__init__(distribution, **kwargs)
        self.doubled = doubled

    def update(self, batch) -> dict[str, Tensor]:
        losses = super().update(batch)
        return losses | {"twice": 2 * next(iter(losses.values()))} if self.doubled else losses


class Count(Callback):
    """Counts blocks."""

    def __init__(self, file: str) -> None:
        self.file = Path(file)

    def on_train_batch_end(self, *args, **kwargs) -> None:
        with self.file.open("a") as file:
            file.write("block\\n")
'''


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder, with a user's module in it; it is on no path of Python's."""
    (tmp_path / "own_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield tmp_path
    sys.modules.pop("own_module", None)


def logged(run) -> set[str]:
    """All names in a run's log."""
    return {name for line in (run / "metrics.jsonl").read_text().splitlines() for name in json.loads(line)}


def test_a_method_and_a_callback_of_ones_own_are_named_by_their_path(folder, experiment):
    (folder / "own.yaml").write_text(
        "method: own\n"
        "model:\n  class_path: own_module.Cloning\n  init_args:\n    distribution: ${task.distribution}\n"
        "    doubled: true\n    hidden: [8]\n    encoder_hidden: [8]\n    batch_size: 4\n    context_size: 4\n"
        "trainer:\n  callbacks:\n  - class_path: own_module.Count\n    init_args: {file: blocks}\n"
    )
    words = command("multi_task_bc", experiment, f"--run={folder}/run", "--evaluation.trials=1")
    main(["fit", "-c", "own.yaml", *words[3:], "--model.updates_per_block=5"])
    assert (folder / "blocks").read_text().split() == ["block"] * 4  # 20 updates
    assert "train/twice" in logged(folder / "run")
    main(["validate", "-c", str(folder / "run/config.yaml"), "--ckpt_path=last", "--evaluation.splits=[train]"])


def test_a_hook_of_ones_own_is_named_by_its_path(folder, experiment):
    words = [f"--run={folder}/run", "--evaluation.splits=[]", "--model.hooks.own=own_module.Hook"]
    main(command("mbml", experiment, *words, "--model.hooks.own.scale=2"))
    assert {"train/own_loss", "train/triplet_loss"} <= logged(folder / "run")


def test_the_script_finds_modules_of_the_current_folder(folder):
    words = ["validate", *command("random", folder)[1:], "--model=own_module.Cloning", "--print_config"]
    paths = f"import sys; sys.path[:] = [{str(ROOT)!r}, *filter(None, sys.path)]"
    script = f"{paths}; import mbml_lightning.cli.main as m; m.main({words})"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert "class_path: own_module.Cloning" in ended.stdout, ended.stderr


def test_every_hook_of_the_package_is_known_by_its_short_name(capsys):
    modules = [import_module(m.name) for m in iter_modules(objectives.__path__, f"{objectives.__name__}.")]
    hooks = {x for m in modules for x in vars(m).values() if isinstance(x, type) and issubclass(x, StepHook)}
    for hook in hooks - {StepHook}:
        with pytest.raises(SystemExit):
            main(command("mbml", ROOT / "nowhere", f"--model.hooks.it={hook.__name__}", "--print_config"))
        assert f"class_path: {hook.__module__}.{hook.__name__}" in capsys.readouterr().out
