"""Size and shape of the package, a column a checkout: `python -m benchmarks.structure [checkout ...] [--trace]`."""

import argparse
import ast
import os
import runpy
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import table

HERE = Path(__file__).parents[1]
PACKAGE = "mbml_lightning"
VAGUE = ("What", "Which", "How", "Whether", "Whose", "Of", "Where", "Those", "Also")
"""First words of docstrings that are no sentence."""
TRACED = ("bcq", "mbml")
Function = ast.FunctionDef | ast.AsyncFunctionDef
Trees = dict[Path, ast.Module]


# Reading the source ---------------------------------------------------------------------------------------------


def parse(checkout: Path) -> Trees:
    """The syntax trees of the package's files, by their path inside it."""
    root = checkout / PACKAGE
    return {path.relative_to(root): ast.parse(path.read_text("utf-8")) for path in sorted(root.rglob("*.py"))}


def lines_by_room(checkout: Path) -> dict[str, int]:
    """Lines of each folder of the package, and of the files beside the folders."""
    rooms: dict[str, int] = {}
    for path in parse(checkout):
        room = f"{path.parts[0]}/" if len(path.parts) > 1 else "beside the folders"
        rooms[room] = rooms.get(room, 0) + len((checkout / PACKAGE / path).read_text("utf-8").splitlines())
    return rooms


def functions(trees: Trees) -> Iterator[tuple[str, int]]:
    """Name and lines of every function that has a body beside its docstring."""
    for tree in trees.values():
        for node in ast.walk(tree):
            if isinstance(node, Function):
                body = node.body[1:] if ast.get_docstring(node) is not None else node.body
                if body:
                    yield node.name, (body[-1].end_lineno or 0) - body[0].lineno + 1


def public_docstrings(trees: Trees) -> Iterator[str]:
    """Docstrings of modules, and of classes, functions and methods without a leading underscore."""
    for tree in trees.values():
        for node in ast.walk(tree):
            named = isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_")
            if (named or node is tree) and (text := ast.get_docstring(node)):
                yield text


def is_vague(docstring: str) -> bool:
    """Whether a first line is too short to be a sentence, or begins like none."""
    words = docstring.splitlines()[0].split()
    return len(words) <= 3 or words[0] in VAGUE


def cycles(trees: Trees) -> int:
    """Groups of modules that import each other when they are first imported."""
    modules = {_module(path): path for path in trees}
    edges = {name: _imports(trees[path], modules) - {name} for name, path in modules.items()}
    reach = {name: _reachable(name, edges) for name in modules}
    return len({frozenset(x for x in reach[name] if name in reach[x]) for name in modules if name in reach[name]})


def _module(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join((PACKAGE, *(parts[:-1] if parts[-1] == "__init__" else parts)))


def _imports(tree: ast.Module, modules: dict[str, Path]) -> set[str]:
    found = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & modules.keys() or {str(node.module)}
    return found & modules.keys()


def _reachable(start: str, edges: dict[str, set[str]]) -> set[str]:
    seen: set[str] = set()
    todo = list(edges[start])
    while todo:
        if (name := todo.pop()) not in seen:
            seen.add(name)
            todo += edges[name]
    return seen


def measure(checkout: Path) -> dict[str, Any]:
    """Every number of a checkout under its name."""
    trees = parse(checkout)
    sizes = sorted(lines for _, lines in functions(trees))
    docstrings = list(public_docstrings(trees))
    return {
        "files": len(trees),
        "lines": sum(lines_by_room(checkout).values()),
        "functions": len(sizes),
        "median function": int(statistics.median(sizes)),
        "90 % of functions are at most": sizes[int(0.9 * len(sizes))],
        "longest function": sizes[-1],
        "longest update": max(lines for name, lines in functions(trees) if name == "update"),
        "public docstrings": len(docstrings),
        "of them with a first line that is no sentence": sum(map(is_vague, docstrings)),
        "import cycles": cycles(trees),
    }


# Following a batch ----------------------------------------------------------------------------------------------


def trace(checkout: Path) -> dict[str, Any]:
    """Files and functions of the package that run between a loader's ``next`` and the optimisers' last step."""
    with tempfile.TemporaryDirectory() as folder:
        env = os.environ | {
            "PYTHONPATH": os.pathsep.join(map(str, (checkout, checkout / "tests"))),
            "PYTHONSAFEPATH": "1",
        }
        words = [sys.executable, __file__, "--follow", folder]
        done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{checkout}: a tiny experiment failed\n{done.stderr}")
    return dict(line.split("\t") for line in done.stdout.splitlines() if "\t" in line)


def follow(folder: str) -> None:
    """Run a tiny experiment of the package that is first on the path, and print what its batches passed."""
    from commands import command  # the checkout's

    short = ["--model.updates_per_block=1", "--trainer.limit_val_batches=0", "--trainer.max_steps=2"]
    _run(command("sac", Path(folder), "--trainer.limit_val_batches=0"))
    for phase in ("bcq", "reward_ensemble", "mbml"):
        calls = _run(command(phase, Path(folder), *short))
        if phase in TRACED:
            files = sorted({f.partition(f"{PACKAGE}/")[2] for f, _ in calls})
            print(f"files that a batch of {phase} passes\t{len(files)}: {', '.join(files)}")
            print(f"functions on its way through {phase}\t{len(calls)}")


def _run(words: list[str]) -> set[tuple[str, str]]:
    """File and name of the package's functions that the last block of a command called."""
    from lightning.pytorch.loops import fetchers
    from torch.optim.optimizer import register_optimizer_step_pre_hook

    called: set[tuple[str, str]] = set()
    stepped: set[tuple[str, str]] = set()
    fetch = fetchers._DataFetcher.__next__

    def note(frame: Any, event: str, _: Any) -> None:
        if event == "call" and f"{PACKAGE}/" in frame.f_code.co_filename:
            called.add((frame.f_code.co_filename, frame.f_code.co_qualname))

    def begin(self: Any) -> Any:
        called.clear()
        sys.setprofile(note)
        return fetch(self)

    hook = register_optimizer_step_pre_hook(lambda *_: stepped.clear() or stepped.update(called))
    fetchers._DataFetcher.__next__ = begin  # type: ignore[method-assign]
    sys.argv = ["mbml", *words]
    try:
        runpy.run_module(PACKAGE, run_name="__main__")
    except SystemExit as stop:
        if stop.code:
            raise
    finally:
        sys.setprofile(None)
        hook.remove()
        fetchers._DataFetcher.__next__ = fetch  # type: ignore[method-assign]
    return stepped


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkouts", nargs="*", type=Path, default=[HERE], help="folders that hold the package")
    parser.add_argument("--trace", action="store_true", help="also follow a batch through a tiny training")
    parser.add_argument("--follow", help=argparse.SUPPRESS)
    options = parser.parse_args(words)
    if options.follow:
        follow(options.follow)
        return
    for way in [lines_by_room, measure, *([trace] if options.trace else [])]:
        columns = {str(path): way(path.resolve()) for path in options.checkouts}
        names = dict.fromkeys(name for column in columns.values() for name in column)
        rows = [{way.__name__: name} | {path: x.get(name, "") for path, x in columns.items()} for name in names]
        print(table(rows), end="\n\n")


if __name__ == "__main__":
    main()
