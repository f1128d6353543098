"""Algorithm 5: what the task identity is drawn from, what counts, and that nobody's score depends on who else acts."""

from dataclasses import dataclass, field

import gymnasium as gym
import numpy as np
import pytest
import torch
from references import product

from mbml_lightning.algorithms import BCQ
from mbml_lightning.envs import distribution
from mbml_lightning.evaluation.adaptation import Belief, adapt
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.seeds import EpisodeSeeds
from mbml_lightning.training.sharding import keep_tasks
from mbml_lightning.types import Gaussian

POINT = distribution("PointGoal")


@dataclass
class Recorder:
    """A policy that walks towards z and remembers what it was given."""

    noise_dim: int = 2
    calls: list = field(default_factory=list)

    def act(self, observations, z, noise):
        self.calls.append((observations.clone(), None if z is None else z.clone(), noise.clone()))
        towards = 0.0 if z is None else z[..., :2]
        return torch.tanh(towards - observations[..., :2] + 0.3 * noise)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = TaskEncoder(2, 2, 3, [8])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(0, 0.5)
    return encoder


def seeds(split="test", tasks=range(0, 3), trials=range(0, 2)):
    return EpisodeSeeds(7, split, tasks, trials)


def test_the_first_identity_is_the_prior_s_and_each_later_one_the_posterior_s(encoder):
    policy = Recorder()
    adapt(policy, encoder, POINT, seeds(), episodes=3)
    per_episode = [policy.calls[i : i + 20] for i in range(0, 60, 20)]
    rows = []
    for e, calls in enumerate(per_episode):
        noise = seeds().normal("z", e, 3)
        expected = torch.empty(3, 2, 3)
        for k in range(3):
            for b in range(2):
                mean, variance = product(((m[k, b], v[k, b]) for m, v in rows), 3)
                expected[k, b] = mean + variance.sqrt() * noise[k, b]
        for _, z, _ in calls:
            torch.testing.assert_close(z, expected, atol=1e-4, rtol=1e-4)
        rows += transitions_of(policy, encoder, calls, e)


def transitions_of(policy, encoder, calls, episode):
    """Factors of an episode's transitions, obtained by stepping every copy's own single environment."""
    tasks = POINT.tasks("test")[:3]
    steps = [[None] * 2 for _ in range(3)]
    for k in range(3):
        for b in range(2):
            env = gym.make("mbml/PointGoal-v0", task=tasks[k])
            s, _ = env.reset(seed=seeds().resets("reset", episode)[2 * k + b])
            steps[k][b] = []
            for observations, z, noise in calls:
                np.testing.assert_array_equal(observations[k, b].numpy(), s)
                a = Recorder().act(observations, z, noise)[k, b]
                next_s, r, *_ = env.step(a.numpy())
                steps[k][b].append((torch.tensor(s), a, torch.tensor(float(r)), torch.tensor(next_s)))
                s = next_s
    factors = []
    for t in range(len(calls)):
        mean, variance = torch.empty(3, 2, 3), torch.empty(3, 2, 3)
        for k in range(3):
            for b in range(2):
                s, a, r, next_s = steps[k][b][t]
                raw = encoder.mlp(torch.cat([s, a, next_s, r.float().reshape(1)]))
                mean[k, b], variance[k, b] = raw[:3], torch.nn.functional.softplus(raw[3:]).clamp_min(1e-7)
        factors.append((mean.detach(), variance.detach()))
    return factors


def test_returns_are_sums_of_rewards(encoder):
    policy = Recorder()
    result = adapt(policy, encoder, POINT, seeds(), episodes=3)
    tasks = POINT.tasks("test")
    total = np.zeros((3, 2, 3))
    for e in range(3):
        for (observations, *_), after in zip(
            policy.calls[20 * e :][:20], policy.calls[20 * e + 1 :][:19], strict=False
        ):
            total[:, :, e] += -np.linalg.norm(after[0].numpy() - tasks[:3, None], axis=-1)
            assert observations.shape == (3, 2, 2)
    last = result.observations[:, :, -1]
    total[:, 0] += -np.linalg.norm(last - tasks[:3, None], axis=-1)
    np.testing.assert_allclose(result.returns[:, 0], total[:, 0], atol=1e-4)
    assert result.observations.shape == (3, 3, 21, 2)


@pytest.mark.parametrize(
    "parts",
    [
        [seeds(tasks=range(0, 1)), seeds(tasks=range(1, 3))],
        [seeds(trials=range(0, 1)), seeds(trials=range(1, 2))],
    ],
)
def test_scores_do_not_depend_on_who_else_is_evaluated(encoder, parts):
    whole = adapt(Recorder(), encoder, POINT, seeds(), episodes=3)
    for part in parts:
        result = adapt(Recorder(), encoder, POINT, part, episodes=3)
        rows = whole.returns[part.tasks.start : part.tasks.stop, part.trials.start : part.trials.stop]
        np.testing.assert_allclose(result.returns, rows, atol=1e-4)


def test_max_context_keeps_the_latest_rows():
    generator = torch.Generator().manual_seed(0)
    factors = [
        Gaussian(torch.randn(1, 1, 4, 2, generator=generator), torch.rand(1, 1, 4, 2, generator=generator) + 0.1)
        for _ in range(2)
    ]
    alive = [torch.tensor([[[True, True, True, False]]]), torch.tensor([[[True, True, False, False]]])]
    kept = [(0, 2), (1, 0), (1, 1)]  # the latest three that happened
    precision = sum(1 / factors[e].variance[0, 0, t] for e, t in kept)
    mean = sum(factors[e].mean[0, 0, t] / factors[e].variance[0, 0, t] for e, t in kept) / precision
    belief = Belief(TaskEncoder(1, 1, 2, [2]), max_context=3)
    belief.observed = list(zip(factors, alive, strict=True))
    posterior = belief.posterior()
    torch.testing.assert_close(posterior.mean[0, 0], mean)
    torch.testing.assert_close(posterior.variance[0, 0], 1 / precision)


def test_episodes_that_end_early_have_paths_of_one_length():
    class Falls(Recorder):
        def act(self, observations, z, noise):
            return torch.ones(*observations.shape[:2], 3)

    hopper = distribution("HopperParam")
    result = adapt(Falls(noise_dim=1), None, hopper, seeds(trials=range(1)), episodes=2)
    assert result.observations.shape == (3, 2, hopper.horizon + 1, hopper.observation_dim)
    assert (result.observations[:, :, -1] == result.observations[:, :, -2]).all(), "all fell before the horizon"


@pytest.mark.parametrize("tasks", [range(0, 2), range(2, 5)])
def test_some_tasks_of_a_stack_act_as_they_do_beside_all_others(tasks):
    """So that a rank that learns some of the tasks reports the scores that one process would."""
    torch.manual_seed(0)
    teachers = BCQ("PointGoal", hidden=[16, 16], vae_hidden=[16, 16])
    whole = adapt(teachers.policy(), None, POINT, seeds("train", range(5)))
    keep_tasks(teachers, tasks)
    some = adapt(teachers.policy(), None, POINT, seeds("train", tasks))
    np.testing.assert_array_equal(some.returns, whole.returns[tasks.start : tasks.stop])
    np.testing.assert_array_equal(some.observations, whole.observations[tasks.start : tasks.stop])
