"""Provenance: versions, command and machine, written into stores, checkpoints and evaluations."""

import importlib.metadata
import platform
import sys
from typing import Any

import torch

PACKAGES = ("mbml-lightning", "torch", "lightning", "mujoco", "gymnasium", "numpy")


def made_by() -> dict[str, Any]:
    """Describe this process: versions of the packages that decide numbers, the command line and the machine."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    return {
        "versions": versions | {"python": platform.python_version()},
        "command": " ".join(["mbml", *sys.argv[1:]]),
        "hardware": f"{platform.machine()}, {torch.get_num_threads()} threads",
    }
