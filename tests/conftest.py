"""Shapes and types are checked at run time in every test; one tiny pipeline on PointGoal serves all that need it."""

import pytest
import torch
from jaxtyping import install_import_hook

# Before the package is first imported, so that every function of it is checked.
install_import_hook("mbml_lightning", "beartype.beartype")

torch.set_num_threads(1)  # the workers of pytest-xdist share the cores


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """Folder of a whole experiment: every phase run once through the CLI."""
    from commands import PHASES, command

    from mbml_lightning.cli.main import main

    folder = tmp_path_factory.mktemp("experiment")
    for phase in PHASES:
        main(command(phase, folder, "--evaluation.trials=2"))
    return folder
