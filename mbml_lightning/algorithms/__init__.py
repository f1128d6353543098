"""The methods as LightningModules: wiring only."""

from mbml_lightning.algorithms.bcq import BCQ
from mbml_lightning.algorithms.best_teacher import BestTeacher
from mbml_lightning.algorithms.contextual_bcq import ContextualBCQ
from mbml_lightning.algorithms.mbml import MBML
from mbml_lightning.algorithms.multi_task_bc import MultiTaskBC
from mbml_lightning.algorithms.pearl import PEARL
from mbml_lightning.algorithms.random import Random
from mbml_lightning.algorithms.sac import SAC
from mbml_lightning.algorithms.transition_ensemble import TransitionEnsemble
from mbml_lightning.training.algorithm import Algorithm

__all__ = [
    "BCQ",
    "MBML",
    "PEARL",
    "SAC",
    "Algorithm",
    "BestTeacher",
    "ContextualBCQ",
    "MultiTaskBC",
    "Random",
    "TransitionEnsemble",
]
