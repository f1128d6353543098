"""`make lint` says the same whatever was run in the tree before."""

import shutil
import subprocess
import sys
from pathlib import Path

from commands import ROOT

HELPERS = [path.stem for path in (ROOT / "tests").glob("*.py") if not path.stem.startswith("test_")]
LEFT_BEHIND = ["runs", "wandb", "torch", *HELPERS]
"""Folders that are named like modules which the tests import, `runs` as `make demo` leaves it."""


def ruff(folder: Path, *words: str) -> str:
    done = subprocess.run([sys.executable, "-m", "ruff", *words], cwd=folder, capture_output=True, text=True)
    return f"{done.stdout}{done.stderr}".strip()


def test_folders_that_runs_leave_change_no_verdict(tmp_path):
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for folder in ("mbml_lightning", "benchmarks", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    clean = ruff(tmp_path, "check", "--no-cache")
    assert clean == "All checks passed!"
    for name in LEFT_BEHIND:
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "runs/left.py").write_text("import sys, os\n")
    assert ruff(tmp_path, "check", "--no-cache") == clean
    (tmp_path / "tests/left.py").write_text("import sys, os\n")
    assert "I001" in ruff(tmp_path, "check", "--no-cache"), "what is ours is still looked at"
