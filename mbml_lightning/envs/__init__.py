"""Task distributions and their environments; importing this registers ``mbml/<distribution>-v0`` with Gymnasium."""

import gymnasium as gym

from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.maze import UmazeGoalM
from mbml_lightning.envs.point import PointGoal
from mbml_lightning.envs.registry import DISTRIBUTIONS, distribution, make_vec_env
from mbml_lightning.envs.task_env import TaskEnv
from mbml_lightning.envs.vector_env import TaskVectorEnv

__all__ = [
    "DISTRIBUTIONS",
    "PointGoal",
    "TaskDistribution",
    "TaskEnv",
    "TaskVectorEnv",
    "UmazeGoalM",
    "distribution",
    "make_vec_env",
]

# Without max_episode_steps: the environments truncate at the horizon themselves.
for _family in DISTRIBUTIONS.values():
    gym.register(
        _family.env_id,
        entry_point="mbml_lightning.envs.task_env:TaskEnv",
        vector_entry_point="mbml_lightning.envs.registry:make_vec_env",
        kwargs={"name": _family.name},
    )
