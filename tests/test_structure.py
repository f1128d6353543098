"""A method, a hook, a protocol and a figure of one's own stand beside the others after few edits; and how we count."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import run_folders
from commands import ROOT, command
from run_folders import write_run

from benchmarks.structure import cycles, functions, is_vague, lines_by_room, main, measure, parse


class Tree:
    """A copy of the tree that notes which files are touched."""

    def __init__(self, root: Path) -> None:
        self.root, self.touched = root, set()
        for folder in ("mbml_lightning", "conf", "workflow"):
            shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))

    def write(self, name: str, text: str) -> None:
        self.touched.add(name)
        (self.root / name).write_text(text)

    def insert(self, name: str, before: str, text: str) -> None:
        """Put text before a place that there is once; at the end of the file if none is given."""
        old = (self.root / name).read_text()
        assert not before or old.count(before) == 1, f"{name}: {before}"
        self.write(name, old.replace(before, text + before) if before else old + text)

    def run(self, *words: str) -> str:
        """What a command prints that imports the copy."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = os.environ | {"PYTHONPATH": str(self.root), "PATH": path}
        done = subprocess.run(words, cwd=self.root, env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout + done.stderr

    def mbml(self, *words: str) -> str:
        return self.run(sys.executable, "-m", "mbml_lightning", *(w.replace(f"{ROOT}/conf", "conf") for w in words))

    def jobs(self, *targets: str) -> str:
        """The workflow's plan."""
        words = ["snakemake", "--snakefile", "workflow/Snakefile", "--cores", "1", "--nolock", "--dry-run"]
        return self.run(*words, "--config", "task=point_goal", "scale=tiny", "--", *targets)


@pytest.fixture
def tree(tmp_path) -> Tree:
    return Tree(tmp_path / "tree")


@pytest.fixture
def runs(tmp_path, monkeypatch) -> Path:
    """Run folders of MBML and of the methods that are added here."""
    monkeypatch.setattr(run_folders, "OTHERS", run_folders.OTHERS | {"pluto": 60.0, "pull": 70.0})
    for method in ("mbml", "neither", "pluto", "pull"):
        write_run(tmp_path / "runs", method)
    return tmp_path / "runs"


METHODS = "mbml_lightning/results/methods.py"
SHORT = ("--trainer.max_steps=2", "--model.updates_per_block=1", "--trainer.limit_val_batches=0")


def logged(run: Path) -> set[str]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {name for line in lines for name in line}


@pytest.mark.nightly
def test_a_method_is_added_in_few_files(tree, runs, experiment, tmp_path):
    tree.write(
        "mbml_lightning/algorithms/pluto.py",
        '"""A method of a test."""\n\n'
        "from mbml_lightning.algorithms.multi_task_bc import MultiTaskBC\n\n\n"
        "class Pluto(MultiTaskBC):\n"
        '    """Behaviour cloning under another name."""\n',
    )
    plain = (ROOT / "conf/multi_task_bc.yaml").read_text()
    tree.write("conf/pluto.yaml", plain.replace("MultiTaskBC", "Pluto").replace("multi_task_bc", "pluto"))
    card = 'Method("pluto", "Pluto the Dwarf", "a method of a test", "method", "fit -c conf/pluto.yaml", ("sac",))'
    tree.insert(METHODS, "", f"register({card})\n")
    assert len(tree.touched) <= 6
    words = [word.replace("multi_task_bc", "pluto") for word in command("multi_task_bc", experiment, *SHORT)]
    tree.mbml(*words, f"--run={tmp_path}/run")
    assert "train/actor_loss" in logged(tmp_path / "run")
    assert "pluto/seed-0" in tree.jobs("all")
    tree.mbml("report", str(runs))
    assert "Pluto the Dwarf" in (runs / "report.md").read_text()


@pytest.mark.nightly
def test_a_hook_is_added_in_few_files(tree, runs, experiment, tmp_path):
    tree.write(
        "mbml_lightning/objectives/pull.py",
        '"""A hook of a test."""\n\n'
        "from mbml_lightning.objectives.hooks import StepHook\n\n\n"
        "class Pull(StepHook):\n"
        '    """Pull posteriors towards zero."""\n\n'
        "    def forward(self, step):\n"
        "        return step.posterior.mean.square().sum()\n",
    )
    tree.write(
        "conf/ablation/pull.yaml",
        "method: pull\nmodel:\n  init_args:\n    relabeller: null\n    hooks:\n      pull:\n        class_path: Pull\n",
    )
    words = "fit -c conf/mbml.yaml -c conf/ablation/pull.yaml"
    tree.insert(METHODS, "", f'register(Method("pull", "Pulled MBML", "", "ablation", "{words}", ("bcq",)))\n')
    assert len(tree.touched) <= 4
    words = [word.replace("neither", "pull") for word in command("neither", experiment, *SHORT)]
    tree.mbml(*words, f"--run={tmp_path}/run")
    assert "train/pull_loss" in logged(tmp_path / "run")
    assert "pull/seed-0" in tree.jobs("all")
    tree.mbml("report", str(runs))
    assert "Pulled MBML" in (runs / "report.md").read_text()


@pytest.mark.nightly
def test_a_protocol_is_added_in_one_or_two_files(tree, experiment, tmp_path):
    contexts = "mbml_lightning/evaluation/contexts.py"
    tree.insert(
        contexts,
        "PAPER = ",
        "class Again(PriorOnline):\n"
        '    """A protocol of a test."""\n\n'
        '    name = "again"\n'
        '    sentence = "as in the paper, for a test."\n\n\n',
    )
    tree.insert(contexts, "RandomFirst())\n", "Again(), ")
    assert len(tree.touched) <= 2
    run, trained = tmp_path / "runs/mbml/seed-0", experiment / "mbml/seed-0"
    weights = ["--ckpt_path", str(trained / "last.ckpt"), "--checkpoint.dirpath", str(trained)]
    words = command("mbml", experiment, "--run", str(run), *weights, "--evaluation.trials=1")
    tree.mbml("validate", *words[1:], "--evaluation.protocols=[prior-online,again]")
    assert (run / "evaluation-again.json").is_file()
    tree.mbml("report", str(tmp_path / "runs"))
    assert "as in the paper, for a test" in (tmp_path / "runs/report.html").read_text()


def test_a_figure_is_added_in_two_files(tree, runs):
    tree.insert("mbml_lightning/report/figures.py", "Figure(12, ", 'Figure(13, "a figure of a test"), ')
    cards = "replace(METHODS[_name], figures=(13,))"
    tree.insert(METHODS, "", f'for _name in ("mbml", "neither"):\n    register({cards})\n')
    assert len(tree.touched) <= 2
    tree.mbml("report", str(runs), "--figure", "13")
    assert (runs / "figures/fig13.png").stat().st_size > 10_000
    assert "Neither" in (runs / "figures/fig13.md").read_text()
    assert "neither/seed-0" in tree.jobs("fig13")


# The counts -----------------------------------------------------------------------------------------------------


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A package of three files, whose numbers are known."""
    package = tmp_path / "mbml_lightning"
    (package / "room").mkdir(parents=True)
    (package / "types.py").write_text('"""Whose kinds."""\n\nfrom mbml_lightning.room import a\n')
    (package / "room/__init__.py").write_text("")
    (package / "room/a.py").write_text(
        '"""A module with a sentence."""\n\nimport math\nfrom mbml_lightning.types import X\n\n\n'
        'def update(x):\n    """Make one step of x."""\n    y = (\n        x\n    )\n    return y\n\n\n'
        'def nothing():\n    """Do nothing at all."""\n'
    )
    return tmp_path


def test_counts_are_those_of_a_package_counted_by_hand(checkout):
    trees = parse(checkout)
    assert lines_by_room(checkout) == {"room/": 16, "beside the folders": 3}
    assert list(functions(trees)) == [("update", 4)]
    assert cycles(trees) == 1
    (checkout / "mbml_lightning/types.py").write_text('"""Kinds of things."""\n')
    numbers = measure(checkout)
    assert numbers["import cycles"] == 0 and numbers["lines"] == 17 and numbers["longest update"] == 4
    assert numbers["public docstrings"] == 4
    assert numbers["of them with a first line that is no sentence"] == 1  # three words


def test_vague_first_lines_are_told_from_sentences():
    vague = ["Of how many tasks actors are asked for.", "Whether it stops at the end.", "The folder's name."]
    assert all(map(is_vague, vague))
    assert not is_vague("Average the gradients of all ranks.") and not is_vague("Offset of a row in its file.")


def test_two_checkouts_stand_beside_each_other(checkout, capsys):
    main([str(checkout), str(ROOT)])
    text = capsys.readouterr().out
    assert f"| room/ | {16} |  |" in text and "| import cycles | 1 | 0 |" in text
