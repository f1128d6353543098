"""Algorithm 5 one step at a time, for an environment that the reader's own loop steps."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.evaluation.adaptation import Belief
from mbml_lightning.evaluation.rollouts import Episode
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.types import Gaussian, Policy, Transitions


class Agent:
    """A trained policy that acts in one environment and infers the task from what it has observed there.

    It begins with a task identity z from the prior. `observe` collects transitions, and `infer` draws a new z from
    their posterior; the paper does so after every episode. `adaptation.adapt` does the same for many tasks at once.

    Args:
        policy: Acts in any task, given z; on the CPU.
        encoder: Infers the task.
        seed: Seed of the random numbers that z and the actions need.

    Attributes:
        z: The task identity that the agent acts with, ``(Z,)``.

    Example:
        >>> import gymnasium as gym
        >>> from mbml_lightning.algorithms import MultiTaskBC
        >>> from mbml_lightning.evaluation.agent import Agent
        >>> untrained = MultiTaskBC("PointGoal", hidden=[16], encoder_hidden=[16], z_dim=4)
        >>> agent, env = Agent(untrained.policy(), untrained.encoder), gym.make("mbml/PointGoal-v0")
        >>> s, _ = env.reset(seed=0)
        >>> a = agent.act(s)  # for z from the prior
        >>> next_s, r, *_ = env.step(a)
        >>> agent.observe(s, a, r, next_s)
        >>> agent.infer()  # now z from the posterior given one transition
    """

    z: Float[Tensor, " Z"]

    def __init__(self, policy: Policy, encoder: TaskEncoder, seed: int = 0) -> None:
        self.policy, self.encoder = policy, encoder
        self.generator = torch.Generator().manual_seed(seed)
        self.reset()

    def reset(self) -> None:
        """Forget all transitions, for a new task, and draw z from the prior N(0, I)."""
        self.belief = Belief(self.encoder)
        self.infer()

    @torch.no_grad()
    def act(self, observation: Float[np.ndarray, " S"]) -> Float[np.ndarray, " A"]:
        """Choose an action in [-1, 1]^A for the current z."""
        s = torch.as_tensor(observation, dtype=torch.float32)
        one = (x.view(1, 1, -1) for x in (s, self.z, self.randn(self.policy.noise_dim)))  # one task, one simulation
        return self.policy.act(*one).flatten().numpy()

    @torch.no_grad()
    def observe(
        self,
        observation: Float[np.ndarray, " S"],
        action: Float[np.ndarray, " A"],
        reward: float,
        next_observation: Float[np.ndarray, " S"],
    ) -> None:
        """Add a transition to the context from which `infer` infers the task."""
        fields = (observation, action, reward, next_observation, 0.0)  # the encoder reads no terminations
        row = Transitions(*(torch.as_tensor(x, dtype=torch.float32) for x in fields))
        self.belief.observe(Episode(row.map(lambda x: x[None, None, None]), torch.ones(1, 1, 1, dtype=torch.bool)))

    @property
    def posterior(self) -> Gaussian:
        """The posterior q(z | c) of all transitions since the last `reset`, the prior where there are none."""
        return self.belief.posterior().map(torch.Tensor.flatten)

    def infer(self) -> None:
        """Draw z from the `posterior`."""
        self.z = self.belief.sample(self.randn(self.encoder.z_dim).view(1, 1, -1)).flatten()

    def randn(self, count: int) -> Float[Tensor, " count"]:
        """Draw standard normal numbers from the agent's own generator."""
        return torch.randn(count, generator=self.generator)
