"""Acting with SAC's actors, and at random."""

import torch
from references import spread

from mbml_lightning.nets.gaussian_actor import GaussianActor
from mbml_lightning.policies.gaussian import GaussianPolicy, UniformPolicy

K, B, S, A = 3, 4, 4, 2


def actor() -> GaussianActor:
    return spread(GaussianActor(S, A, [8], members=(K,)))


def test_deterministic_policy_acts_with_the_mean() -> None:
    net, s = actor(), torch.randn(K, B, S)
    policy = GaussianPolicy(net, A, deterministic=True)
    assert policy.noise_dim == 0
    assert torch.equal(policy.act(s, None, torch.empty(K, B, 0)), torch.tanh(net(s)[0]))


def test_sampling_policy_scales_its_noise() -> None:
    net, s, noise = actor(), torch.randn(K, B, S), torch.randn(K, B, A)
    policy = GaussianPolicy(net, A)
    assert policy.noise_dim == A
    mean, log_std = net(s)
    torch.testing.assert_close(policy.act(s, None, noise), torch.tanh(mean + log_std.exp() * noise))
    assert torch.equal(policy.act(s, None, torch.zeros(K, B, A)), torch.tanh(mean))


def test_uniform_policy_is_uniform_in_the_box_whatever_the_state() -> None:
    n = 40_000
    a = UniformPolicy(A).act(torch.zeros(1, n, S), None, torch.randn(1, n, A))
    assert a.shape == (1, n, A)
    assert a.abs().max() <= 1
    for d in range(A):
        x = a[0, :, d].sort().values
        distance = (x - (2 * (torch.arange(n) + 0.5) / n - 1)).abs().max() / 2
        assert distance < 1.95 / n**0.5, "Kolmogorov-Smirnov, p = 0.001"
    assert torch.corrcoef(a[0].T)[0, 1].abs() < 0.02


def test_more_noise_is_more_of_an_action() -> None:
    noise = torch.linspace(-3, 3, 7).view(1, 7, 1)
    a = UniformPolicy(1).act(torch.zeros(1, 7, S), None, noise).flatten()
    assert a[3].item() == 0.0
    assert (a.diff() > 0).all()
