"""Task distributions and their environments; importing this registers ``mbml/<distribution>-v0`` with Gymnasium."""

import gymnasium as gym

from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.registry import DISTRIBUTIONS, distribution, make_vec_env
from mbml_lightning.envs.task_env import TaskEnv
from mbml_lightning.envs.vector_env import TaskVectorEnv

__all__ = ["DISTRIBUTIONS", "TaskDistribution", "TaskEnv", "TaskVectorEnv", "distribution", "make_vec_env"]

# Without max_episode_steps: the environments truncate at the horizon themselves.
for _distribution in DISTRIBUTIONS.values():
    gym.register(
        _distribution.env_id,
        entry_point="mbml_lightning.envs.task_env:TaskEnv",
        vector_entry_point="mbml_lightning.envs.registry:make_vec_env",
        kwargs={"name": _distribution.family},
    )
