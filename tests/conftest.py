"""Shapes and types are checked at run time in every test; one tiny pipeline on PointGoal serves all that need it."""

from pathlib import Path

import pytest
import torch
from jaxtyping import install_import_hook

# Before the package is first imported, so that every function of it is checked.
install_import_hook("mbml_lightning", "beartype.beartype")

torch.set_num_threads(1)  # the workers of pytest-xdist share the cores

ROOT = Path(__file__).parent.parent
TINY = ["--task", str(ROOT / "conf/task/point_goal.yaml"), "--scale", str(ROOT / "conf/scale/tiny.yaml")]
PHASES = {
    "sac": ["fit", "-c", str(ROOT / "conf/sac.yaml")],
    "bcq": ["fit", "-c", str(ROOT / "conf/bcq.yaml")],
    "reward_ensemble": ["fit", "-c", str(ROOT / "conf/reward_ensemble.yaml")],
    "mbml": ["fit", "-c", str(ROOT / "conf/mbml.yaml")],
    "neither": ["fit", "-c", str(ROOT / "conf/mbml.yaml"), "-c", str(ROOT / "conf/ablation/neither.yaml")],
    "random": ["validate", "-c", str(ROOT / "conf/random.yaml")],
}


def command(phase: str, experiment: Path, *more: str) -> list[str]:
    """The command line of a phase at tiny scale."""
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    return [*PHASES[phase], *TINY, "--experiment", str(experiment), *quiet, *more]


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """Folder of a whole experiment: every phase run once through the CLI."""
    from mbml_lightning.cli import main

    folder = tmp_path_factory.mktemp("experiment")
    for phase in PHASES:
        main(command(phase, folder, "--evaluation.trials=2"))
    return folder
