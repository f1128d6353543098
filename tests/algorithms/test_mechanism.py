"""The paper's claim on PointGoal, in seconds: only with the triplet does the encoder read rewards."""

from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from mbml_lightning.algorithms import MBML
from mbml_lightning.algorithms.mbml import Teachers
from mbml_lightning.data.relabelling import OracleRelabeller, under_every_task
from mbml_lightning.data.rows import Rows, pack
from mbml_lightning.envs import distribution, make_vec_env
from mbml_lightning.envs.point import SPEED
from mbml_lightning.evaluation.rollouts import run_episode
from mbml_lightning.evaluation.sensitivity import reward_sensitivity, rewards_followed
from mbml_lightning.nets.task_encoder import product, sample
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import Gaussian, Transitions

FAMILY = distribution("PointGoal")
GOALS = torch.tensor(FAMILY.tasks("train"), dtype=torch.float32).unsqueeze(1)  # (K, 1, 2)
K, T, EPISODES = len(GOALS), FAMILY.horizon, 40


def straight(target: Tensor, s: Tensor) -> Tensor:
    """The action that leads straight to the target, at most SPEED a step."""
    offset = target - s
    return offset / offset.norm(dim=-1, keepdim=True).clamp_min(SPEED)


class Walker:
    """A clumsy policy; its z is the place it heads for."""

    noise_dim = 2

    def act(self, s, z, noise):
        return (straight(z, s) + 0.5 * noise).clamp(-1, 1)


def walk(policy, z: Tensor, seed: int) -> Transitions:
    """Transitions (K, B, T) of one episode with each z (K, B, Z)."""
    env = make_vec_env("PointGoal", GOALS.squeeze(1).numpy(), num_envs=z[..., 0].numel())
    noise = torch.randn(*z.shape[:2], T, policy.noise_dim, generator=torch.Generator().manual_seed(seed))
    return run_episode(env, policy, z, noise, list(range(seed, seed + env.num_envs))).transitions


def teachers() -> Teachers:
    """What perfect teachers would say; nothing is corrected."""

    def q(s, a):
        distance = (s + SPEED * a - GOALS).norm(dim=-1, keepdim=True)  # after a; from there straight on
        return -(distance - SPEED * torch.arange(T)).clamp_min(0).sum(-1)

    return Teachers(q, lambda s, nu: straight(GOALS, s), lambda s, a: torch.zeros_like(a))


class Trained(NamedTuple):
    model: MBML
    rows: Rows


@pytest.fixture(scope="module")
def rows() -> Rows:
    """Each task's data lie around its own goal."""
    targets = GOALS + 0.2 * torch.randn(K, EPISODES, 2, generator=torch.Generator().manual_seed(0))
    data = Transitions(*(x.flatten(1, 2) for x in walk(Walker(), targets, 0)))
    fields = [dict(zip(data._fields, (x.numpy() for x in task), strict=True)) for task in zip(*data, strict=True)]
    return Rows(pack(fields), FAMILY.observation_dim, FAMILY.action_dim, EPISODES * T)


def train(rows: Rows, updates: int = 1000, **changes) -> MBML:
    torch.manual_seed(0)
    hidden = {"encoder_hidden": (64, 64), "q_hidden": (64, 64)}
    hidden |= {"generator_hidden": (64, 64), "perturbation_hidden": (8,)}
    settings = {"z_dim": 3, "lr": 3e-3, "batch_size": 64, "context_size": T, "kl_weight": 5e-4}
    model = MBML("PointGoal", "unused", **hidden, **settings, **changes)
    trainer = SimpleNamespace(world_size=1, optimizers=[model.configure_optimizers()])
    model.trainer, model.teachers = trainer, teachers()
    if model.relabeller is not None:
        model.relabeller.prepare(rows, "PointGoal")
    dice = torch.Generator().manual_seed(0)
    for _ in range(updates):
        model.update(rows.draw(dice, model.batch_size, model.context_rows))
    return model.requires_grad_(False)


@pytest.fixture(scope="module")
def neither(rows) -> MBML:
    return train(rows)


@pytest.fixture(scope="module")
def mbml(rows) -> MBML:
    return train(rows, relabeller=OracleRelabeller(), hooks={"triplet": RelabelledTriplet(weight=0.1)})


def posteriors(model: MBML, rows: Rows) -> tuple[Gaussian, Gaussian]:
    """Of episodes of each task, own and with every task's rewards."""
    oracle, contexts = OracleRelabeller(), rows.unpack(rows.packed)
    oracle.prepare(rows, "PointGoal")
    index = torch.arange(rows.count).expand(K, -1)
    factors = model.encoder(under_every_task(contexts, oracle(contexts, index)))
    swapped = product(Gaussian(*(x.unflatten(2, (EPISODES, T)) for x in factors)))
    return Gaussian(*(x.diagonal().movedim(-1, 0) for x in swapped)), swapped


def test_without_the_triplet_rewards_are_ignored_and_with_it_they_are_read(neither, mbml, rows):
    ignores, reads = posteriors(neither, rows), posteriors(mbml, rows)
    assert reward_sensitivity(*ignores) < 0.1 < 0.5 < reward_sensitivity(*reads)
    assert rewards_followed(*ignores) < 0.1 < 0.7 < rewards_followed(*reads)


def test_contexts_of_another_tasks_policy_mislead_neither_and_not_mbml(neither, mbml):
    returns = {}
    for name, model in {"neither": neither, "mbml": mbml}.items():
        for who in range(K):  # 0 is the task's own policy
            visited = GOALS.roll(who, 0) + 0.2 * torch.randn(K, 20, 2, generator=torch.Generator().manual_seed(1))
            torch.manual_seed(2)
            z = sample(product(model.encoder(walk(Walker(), visited, 100))))
            returns[name, who] = walk(model.policy(), z, 200).rewards.sum(-1).mean().item()
    misled = {name: np.mean([returns[name, who] for who in range(1, K)]) for name in ("neither", "mbml")}
    lost = {name: returns[name, 0] - misled[name] for name in misled}
    assert lost["neither"] > 8 and lost["neither"] > 2 * lost["mbml"], returns
    assert misled["mbml"] > misled["neither"], returns
