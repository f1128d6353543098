"""A trained policy in a loop of one's own does what the evaluation does (Algorithm 5)."""

import subprocess
import sys
from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest
import torch
from references import product

import mbml_lightning
from mbml_lightning.algorithms import MBML, Random
from mbml_lightning.envs import distribution, make_vec_env
from mbml_lightning.errors import CheckpointError
from mbml_lightning.evaluation.agent import Agent
from mbml_lightning.evaluation.rollouts import run_episode
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.types import Policy, Transitions

FAMILY = distribution("PointGoal")
TASK = FAMILY.tasks("test")[1]


@pytest.fixture(scope="module")
def run(experiment):
    return experiment / "mbml/seed-0"


@dataclass
class Recorded:
    """A policy that remembers what it was given and what it did."""

    policy: Policy
    noise_dim: int
    calls: list = field(default_factory=list)

    def act(self, observations, z, noise):
        self.calls.append((observations, z, noise, self.policy.act(observations, z, noise)))
        return self.calls[-1][-1]


def act_episode(agent, env, seed):
    """The loop of the README; the undiscounted return, and the transitions."""
    s, _ = env.reset(seed=seed)
    over, total, rows = False, 0.0, []
    while not over:
        a = agent.act(s)
        next_s, r, terminated, truncated, _ = env.step(a)
        agent.observe(s, a, r, next_s)
        rows.append(Transitions(*(torch.as_tensor(x, dtype=torch.float32) for x in (s, a, r, next_s, 0.0))))
        s, over, total = next_s, terminated or truncated, total + r
    return total, rows


def test_an_episode_in_gym_make_is_the_one_that_the_evaluation_acts(run):
    agent = mbml_lightning.load(run)
    recorded = agent.policy = Recorded(agent.policy, agent.policy.noise_dim)
    total, rows = act_episode(agent, gym.make("mbml/PointGoal-v0", task=TASK), seed=7)
    noise = torch.stack([noise for _, _, noise, _ in recorded.calls], 2)
    with torch.no_grad():
        copy = make_vec_env("PointGoal", TASK[None])
        episode = run_episode(copy, recorded.policy, agent.z.view(1, 1, -1), noise, seeds=[7])
    assert total == pytest.approx(float(episode.transitions.rewards.sum()))
    seen = Transitions(*(torch.stack(x) for x in zip(*rows, strict=True)))
    for ours, theirs in zip(seen[:4], episode.transitions[:4], strict=True):
        torch.testing.assert_close(ours, theirs[0, 0])


def test_z_is_the_priors_first_and_then_that_of_the_product_of_all_rows(run, monkeypatch):
    agent = mbml_lightning.load(run)
    assert not agent.posterior.mean.any() and (agent.posterior.variance == 1).all()
    env = gym.make("mbml/PointGoal-v0", task=TASK)
    rows = [row for seed in range(2) for row in act_episode(agent, env, seed)[1]]
    with torch.no_grad():
        expected = product([agent.encoder(row) for row in rows], agent.encoder.z_dim)
    assert len(rows) == 2 * FAMILY.horizon
    torch.testing.assert_close(agent.posterior, expected)
    monkeypatch.setattr(agent, "randn", lambda count: torch.full((count,), 2.0))
    agent.infer()
    torch.testing.assert_close(agent.z, expected.mean + 2 * expected.variance.sqrt())


def test_reset_forgets_the_task(run):
    agent = mbml_lightning.load(run)
    act_episode(agent, gym.make("mbml/PointGoal-v0", task=TASK), seed=0)
    agent.infer()
    agent.reset()
    assert not agent.posterior.mean.any() and (agent.posterior.variance == 1).all()


def test_the_seed_decides_what_is_drawn(run):
    first, same, other = (mbml_lightning.load(run, seed=seed) for seed in (3, 3, 4))
    s = np.full(2, 0.5, np.float32)
    assert torch.equal(first.z, same.z) and not torch.equal(first.z, other.z)
    np.testing.assert_array_equal(first.act(s), same.act(s))


def test_rewards_move_the_posterior():
    torch.manual_seed(0)
    encoder = TaskEncoder(2, 2, 3, [8])
    agents = [Agent(Random("PointGoal").policy(), encoder) for _ in range(2)]
    for agent, reward in zip(agents, (0.0, -1.0), strict=True):
        agent.observe(np.zeros(2, np.float32), np.ones(2, np.float32), reward, np.ones(2, np.float32))
    assert not torch.equal(agents[0].posterior.mean, agents[1].posterior.mean)


def test_the_loaded_weights_are_those_of_the_checkpoint(run):
    agent, module = mbml_lightning.load(run), MBML.load_from_checkpoint(run / "last.ckpt", weights_only=True)
    for ours, theirs in ((agent.encoder, module.encoder), (agent.policy.q, module.q)):
        for name, x in ours.state_dict().items():
            assert torch.equal(x, theirs.state_dict()[name])


def test_a_run_without_checkpoint_or_without_task_inference_is_refused_in_one_line(experiment, tmp_path):
    with pytest.raises(CheckpointError, match=r"last.ckpt: no such checkpoint: run the phase that writes it first$"):
        mbml_lightning.load(tmp_path)
    with pytest.raises(CheckpointError, match=r"BCQ infers no task: load a run of a method that does$"):
        mbml_lightning.load(experiment / "bcq/seed-0")
    with pytest.raises(CheckpointError, match="method is MBML, Random is needed"):
        mbml_lightning.load(experiment / "mbml/seed-0", method=Random)


def test_a_method_of_ones_own_is_named(run):
    class MBML(mbml_lightning.algorithms.MBML):
        pass

    assert torch.equal(mbml_lightning.load(run, method=MBML).z, mbml_lightning.load(run).z)


def test_importing_the_package_imports_neither_torch_nor_lightning():
    code = "import sys, mbml_lightning; sys.exit(bool({'torch', 'lightning', 'mujoco'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
