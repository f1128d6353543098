"""The cards of the methods are the one list that workflow, report, README and tests agree on."""

import re
import subprocess
import sys

import pytest
from commands import ROOT
from run_folders import write_run

from mbml_lightning.results import methods
from mbml_lightning.results.methods import METHODS, Method, card, methods_for, register
from mbml_lightning.results.runs import read_experiment


def files_of(method):
    return [word for word in method.command.split() if word.startswith("conf/")]


def test_every_configuration_of_a_method_has_a_card_and_every_card_its_files():
    named = {file for method in METHODS.values() for file in files_of(method)}
    there = [path for folder in ("conf", "conf/ablation", "conf/split") for path in (ROOT / folder).glob("*.yaml")]
    assert named == {str(path.relative_to(ROOT)) for path in there}


def test_runs_go_to_the_folder_that_the_card_names():
    """The last file, or the command line, says the name of the run's folder."""
    for method in METHODS.values():
        named = re.findall(r"--method (\w+)", method.command)
        said = re.findall(r"^method: (\w+)$", (ROOT / files_of(method)[-1]).read_text(), re.MULTILINE)
        assert (named or said) == [method.name]


@pytest.mark.parametrize("physics", ["shared", "varied"])
def test_what_a_method_needs_can_be_run_before_it(physics):
    usable = methods_for(physics)
    done = set()
    while left := [name for name, method in usable.items() if name not in done and done.issuperset(method.needs)]:
        done.update(left)
    assert done == usable.keys()
    assert usable.keys() ^ METHODS.keys() == {"next_state_ensemble" if physics == "shared" else "ground_truth"}


def test_colours_and_dashes_tell_methods_apart():
    adapting = [method for method in METHODS.values() if method.kind in ("method", "ablation")]
    assert len({method.colour for method in adapting}) == len(adapting)
    references = [method for method in METHODS.values() if method.is_reference]
    assert len({method.dash for method in references}) == len(references)


def test_the_readme_lists_the_methods_and_phases_of_the_cards():
    """Every `conf/...` of a table is a card's, and every card stands in a table."""
    tables = "\n".join(line for line in (ROOT / "README.md").read_text().splitlines() if line.startswith("|"))
    named = set(re.findall(r"conf/(?!task|scale|trainer|split)[\w/]+\.yaml", tables))
    cards = {files_of(method)[-1] for method in METHODS.values() if method.kind != "collector"}
    assert named >= cards
    named = {name for name in named if not name.endswith("/x.yaml")}  # of how to add one
    assert named <= {file for method in METHODS.values() for file in files_of(method)}
    for row in tables.splitlines():
        for number in map(int, re.findall(r"Fig\. (\d+) \|$", row)):
            (command,) = re.findall(r"`(conf/[^`]*)`", row)
            (method,) = (method for method in METHODS.values() if method.command == f"fit -c {command}")
            assert number in method.figures


def test_a_card_from_outside_stands_with_its_label_before_the_references(tmp_path, monkeypatch):
    monkeypatch.setattr(methods, "METHODS", dict(METHODS))
    for name in ("mbml", "margin_0", "unknown", "random"):
        write_run(tmp_path, name)
    register(Method("unknown", "Ours", "a method of our own"))
    assert [method.label for method in read_experiment([tmp_path]).methods] == ["MBML", "Margin 0", "Ours", "Random"]
    assert card("another") == Method("another", "another")


def test_the_cards_cost_no_heavy_import():
    heavy = "{'torch', 'lightning', 'matplotlib', 'numpy', 'scipy', 'mujoco'}"
    code = f"import sys, mbml_lightning.report.figures; sys.exit(repr({heavy} & sys.modules.keys()))"
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.stderr == "set()\n"
