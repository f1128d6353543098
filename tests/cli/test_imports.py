"""A command imports what it needs and no more, so that it answers at once."""

import json
import subprocess
import sys

import pytest

HEAVY = ("lightning", "torch", "scipy.signal", "matplotlib", "mujoco")
SAY = f"import json; print(json.dumps([name for name in {HEAVY} if name in sys.modules]), file=sys.stderr)"
RUN = """
import sys
from mbml_lightning.cli.main import main
try:
    main({words})
finally:
    {say}
"""


@pytest.mark.parametrize(
    ("words", "unwanted"),
    [
        (["--help"], HEAVY),
        (["fi"], HEAVY),
        (["report", "--help"], HEAVY),
        (["envs", "--help"], ("lightning", "torch", "scipy.signal", "matplotlib")),
        (["envs"], ("lightning", "torch", "scipy.signal", "matplotlib")),
        (["report", "nowhere"], ("lightning", "torch", "mujoco")),
    ],
)
def test_a_command_imports_no_more_than_it_needs(words, unwanted):
    script = RUN.format(words=words, say=SAY)
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    imported = json.loads(next(line for line in ended.stderr.splitlines() if line.startswith("[")))
    assert not set(unwanted) & set(imported)
