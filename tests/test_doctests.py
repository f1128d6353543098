"""The examples in docstrings run from an empty session, and print what they say."""

import ast
import doctest
from collections.abc import Iterator

import pytest
from commands import ROOT


def examples() -> Iterator[doctest.DocTest]:
    """Every docstring of the package that holds an example; read, not imported, so that collecting stays fast."""
    for path in sorted((ROOT / "mbml_lightning").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and ">>>" in (text := ast.get_docstring(node) or ""):
                name = f"{path.relative_to(ROOT).with_suffix('').as_posix()}:{node.name}"
                yield doctest.DocTestParser().get_doctest(text, {}, name, str(path), node.lineno)


EXAMPLES = list(examples())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_prints_what_it_says(example):
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    assert runner.run(example, out=said.append).failed == 0, "".join(said)


def test_ten_public_names_show_how_they_are_used():
    assert len(EXAMPLES) >= 10
