"""Counts of the package's size and shape are those that one makes by hand."""

from pathlib import Path

import pytest
from commands import ROOT

from benchmarks.structure import cycles, functions, is_vague, lines_by_room, main, measure, parse


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
