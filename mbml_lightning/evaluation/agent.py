"""Algorithm 5 one step at a time, for an environment that the reader's own loop steps."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mbml_lightning.nets.task_encoder import TaskEncoder, product
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
        self.seen: list[Transitions] = []
        self.infer()

    @torch.no_grad()
    def act(self, observation: Float[np.ndarray, " S"]) -> Float[np.ndarray, " A"]:
        """Choose an action in [-1, 1]^A for the current z."""
        noise = self.randn(self.policy.noise_dim)
        s, z, noise = (x.view(1, 1, -1) for x in (_float(observation), self.z, noise))  # one task, one simulation
        action: Float[np.ndarray, " A"] = self.policy.act(s, z, noise).flatten().numpy()
        return action

    def observe(
        self,
        observation: Float[np.ndarray, " S"],
        action: Float[np.ndarray, " A"],
        reward: float,
        next_observation: Float[np.ndarray, " S"],
    ) -> None:
        """Add a transition to the context from which `infer` infers the task."""
        s, a, r, next_s = (_float(x) for x in (observation, action, reward, next_observation))
        self.seen.append(Transitions(s, a, r, next_s, torch.zeros(())))  # the encoder reads no terminations

    @property
    @torch.no_grad()
    def posterior(self) -> Gaussian:
        """The posterior q(z | c) of all transitions since the last `reset`, the prior where there are none."""
        if not self.seen:
            return Gaussian(torch.zeros(self.encoder.z_dim), torch.ones(self.encoder.z_dim))
        return product(self.encoder(Transitions(*(torch.stack(x) for x in zip(*self.seen, strict=True)))))

    def infer(self) -> None:
        """Draw z from the `posterior`."""
        mean, variance = self.posterior
        self.z = mean + variance.sqrt() * self.randn(self.encoder.z_dim)

    def randn(self, count: int) -> Float[Tensor, " count"]:
        """Draw standard normal numbers from the agent's own generator."""
        return torch.randn(count, generator=self.generator)


def _float(x: np.ndarray | float) -> Tensor:
    return torch.as_tensor(x, dtype=torch.float32)
