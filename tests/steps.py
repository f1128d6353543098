"""Steps of task inference made from the factors that a test is about; everything else is a placeholder."""

import torch

from mbml_lightning.nets.task_encoder import product
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.types import Gaussian, Transitions


def transitions(*leading: int, s: int = 3, a: int = 2) -> Transitions:
    """Random transitions, of which no episode ends."""
    return Transitions(
        torch.randn(*leading, s),
        torch.rand(*leading, a) * 2 - 1,
        torch.randn(*leading),
        torch.randn(*leading, s),
        torch.zeros(leading),
    )


def context_step(own: Gaussian, **known) -> ContextStep:
    """A step whose rows were encoded to ``own`` and whatever else is ``known``."""
    posterior = known.get("posterior", product(own))
    placeholders = {
        "contexts": transitions(*own.mean.shape[:2]),
        "relabelled_rows": None,
        "relabelled": None,
        "kept": None,
        "posterior": posterior,
        "z": posterior.mean,
        "sets": None,
        "encode": lambda rows: own,
    }
    return ContextStep(**placeholders | known | {"own": own})
