"""Episodes of any policy: what it is given, and which steps count."""

import numpy as np
import torch

from mbml_lightning.envs import distribution
from mbml_lightning.evaluation.adaptation import first_trial
from mbml_lightning.evaluation.rollouts import collect, run_episode
from mbml_lightning.seeds import EpisodeSeeds

POINT = distribution("PointGoal")


class Recorder:
    """A policy that walks towards z and remembers what it was given."""

    def __init__(self, noise_dim=2):
        self.noise_dim, self.seen = noise_dim, []

    def act(self, observations, z, noise):
        self.seen.append((observations.clone(), z, noise.clone()))
        return torch.tanh((0.0 if z is None else z - observations) + 0.3 * noise)


class Countdown:
    """Two copies that end after one and three steps; every step is worth 1."""

    num_envs = 2

    def reset(self, seed):
        self.t = 0
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions):
        self.t += 1
        s = np.full((2, 1), self.t, np.float32)
        return s, np.ones(2), np.array([self.t == 1, self.t == 3]), np.zeros(2, bool), {}


def test_steps_after_an_episode_s_end_do_not_count():
    body = run_episode
    while hasattr(body, "__wrapped__"):  # without the check of types, which Countdown is none of
        body = body.__wrapped__
    episode = body(Countdown(), Recorder(noise_dim=1), None, torch.zeros(2, 1, 9, 1), [0, 0])
    assert episode.alive[:, 0].tolist() == [[True, False, False], [True, True, True]]
    assert episode.transitions.terminations[1, 0].tolist() == [0, 0, 1]
    assert (episode.transitions.rewards * episode.alive).sum(-1).flatten().tolist() == [1, 3]
    assert first_trial(episode, 5)[..., 0].tolist() == [[0, 1, 1, 1, 1, 1], [0, 1, 2, 3, 3, 3]]


def test_collecting_acts_with_the_z_that_is_given_in_every_episode():
    policy, z = Recorder(), torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(0))
    seeds = EpisodeSeeds(7, "train", [0, 2, 4], range(2))
    episodes = collect(policy, POINT, seeds, episodes=2, z=z)
    assert len(episodes) == 2 and len(policy.seen) == 2 * POINT.horizon
    assert all(torch.equal(seen, z) for _, seen, _ in policy.seen)
    goals = torch.tensor(POINT.tasks("train")[[0, 2, 4]], dtype=torch.float32)
    for e, episode in enumerate(episodes):
        t, noise = episode.transitions, seeds.normal("context-action", e, POINT.horizon, 2)
        assert episode.alive.all() and t.rewards.shape == (3, 2, POINT.horizon)
        torch.testing.assert_close(t.actions, torch.tanh(z.unsqueeze(2) - t.observations + 0.3 * noise))
        distance = (t.next_observations - goals[:, None, None]).norm(dim=-1)
        torch.testing.assert_close(t.rewards, -distance, atol=1e-5, rtol=1e-5)
    assert not torch.equal(episodes[0].transitions.observations, episodes[1].transitions.observations)


def test_episodes_of_another_purpose_are_others():
    seeds = EpisodeSeeds(7, "train", [1], [0])
    one, other = (collect(Recorder(), POINT, seeds, purpose=name)[0] for name in ("context-", "data-"))
    assert not torch.equal(one.transitions.observations[..., 0, :], other.transitions.observations[..., 0, :])
    assert not torch.equal(one.transitions.actions, other.transitions.actions)
