"""Task distributions and their environments; importing this registers ``mbml/<distribution>-v0`` with Gymnasium."""

from mbml_lightning.envs.ant import AntDir, AntDirFwd, AntGoal
from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.half_cheetah import HalfCheetahVel
from mbml_lightning.envs.humanoid import HumanoidDir, HumanoidDirM
from mbml_lightning.envs.maze import MazeMedium, UmazeGoalM
from mbml_lightning.envs.point import PointGoal
from mbml_lightning.envs.random_physics import HopperParam, WalkerParam
from mbml_lightning.envs.registry import (
    DISTRIBUTIONS,
    distribution,
    every_distribution,
    make_vec_env,
    recorded_distribution,
    register,
    register_ids_of_packages,
)
from mbml_lightning.envs.simulation import Simulation
from mbml_lightning.envs.task_env import TaskEnv
from mbml_lightning.envs.vector_env import TaskVectorEnv

__all__ = [
    "DISTRIBUTIONS",
    "Simulation",
    "TaskDistribution",
    "TaskEnv",
    "TaskVectorEnv",
    "distribution",
    "every_distribution",
    "make_vec_env",
    "recorded_distribution",
    "register",
]

for _kind in (
    *(AntDir, AntGoal, HalfCheetahVel, HumanoidDirM, UmazeGoalM, WalkerParam),  # of the paper
    *(AntDirFwd, HumanoidDir, HopperParam, MazeMedium),  # for comparison with other papers
    PointGoal,  # the toy
):
    register(_kind)
register_ids_of_packages()
