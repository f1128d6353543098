"""Shapes and types are checked at run time in every test; one tiny pipeline on PointGoal serves all that need it."""

from importlib import import_module
from types import SimpleNamespace

import pytest
import torch
from hypothesis import settings
from jaxtyping import install_import_hook
from torch import nn

# Before the hook, under which Python compiles all that it imports anew, which takes ten seconds.
for package in ("lightning.pytorch.cli", "matplotlib.pyplot", "mujoco", "gymnasium", "scipy.stats"):
    import_module(package)
# Before the package is first imported, so that every function of it is checked.
install_import_hook("mbml_lightning", "beartype.beartype")

torch.set_num_threads(1)  # the workers of pytest-xdist share the cores
settings.register_profile("any machine", deadline=None)  # a slow one's 200 ms are no fault
settings.load_profile("any machine")


@pytest.fixture(scope="session")
def experiment(tmp_path_factory):
    """Folder of a whole experiment: every phase run once through the CLI."""
    from commands import PHASES, command

    from mbml_lightning.cli.main import main

    folder = tmp_path_factory.mktemp("experiment")
    for phase in PHASES:
        main(command(phase, folder, "--evaluation.trials=2"))
    return folder


@pytest.fixture(autouse=True)
def exact_mathematics(request):
    """Formulas are compared with their references in double precision."""
    if request.path.parent.name in ("nets", "objectives", "policies"):
        request.getfixturevalue("double_precision")


@pytest.fixture
def double_precision():
    """For comparisons with references, with fixed random numbers."""
    torch.manual_seed(0)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def make():
    """Makes a method whose `update` can be called, its weights so large that no mix-up goes unseen."""
    trainers = []  # Lightning keeps a weak reference

    def make(method, **arguments):
        algorithm = method("UmazeGoalM", **arguments)  # states and actions of different size
        for name, p in algorithm.named_parameters():
            if (".mlp." in name and "target" not in name) or name.startswith("ensemble"):
                nn.init.normal_(p, std=p.shape[-2] ** -0.5 if "weights" in name else 0.3)
        found = algorithm.configure_optimizers()
        trainers.append(SimpleNamespace(world_size=1, optimizers=found if isinstance(found, list) else [found]))
        algorithm.trainer = trainers[-1]
        return algorithm

    return make
