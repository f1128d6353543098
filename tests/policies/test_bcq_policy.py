"""BCQ's way of acting against Eq. 1 and 17, one state and one candidate after the other."""

import pytest
import torch
from references import separate, spread
from torch import Tensor, nn

from mbml_lightning.nets.heads import CandidateGenerator, Perturbation, QFunction
from mbml_lightning.policies.bcq import BCQPolicy

K, B, S, A, Z, M, PHI = 3, 4, 4, 2, 3, 5, 0.3
L = 2 * A


def by_hand(net: nn.Module, index: tuple[int, ...], *columns: Tensor) -> Tensor:
    return separate(net.mlp, *index)(torch.cat(columns))


def act_by_loops(policy: BCQPolicy, q: QFunction, s: Tensor, z: Tensor | None, noise: Tensor) -> tuple[Tensor, int]:
    """Actions, and how many were held back by the box."""
    actions, clipped = torch.empty(K, B, A), 0
    for k in range(K):
        for b in range(B):
            which, identity = ((k,), []) if z is None else ((), [z[k, b]])
            best = -float("inf")
            for m in range(M):
                nu = noise[k, b, m * L : (m + 1) * L].clamp(-0.5, 0.5)
                a = torch.tanh(by_hand(policy.generator, which, s[k, b], nu, *identity))
                a = a + PHI * torch.tanh(by_hand(policy.perturbation, which, s[k, b], a, *identity))
                held, a = bool((a.abs() > 1).any()), a.clamp(-1, 1)
                value = by_hand(q, which, s[k, b], a, *identity).item()
                if value > best:
                    best, actions[k, b], last = value, a, held
            clipped += last
    return actions, clipped


def make(z_dim: int, members: tuple[int, ...]) -> tuple[BCQPolicy, QFunction]:
    dims = (S, A, [8], z_dim, members)
    generator, perturbation, q = (spread(net(*dims)) for net in (CandidateGenerator, Perturbation, QFunction))
    return BCQPolicy(generator, perturbation, q, M, PHI), q


@pytest.mark.parametrize("stacked", [True, False], ids=["one policy a task", "one policy given z"])
def test_proposes_perturbs_clips_and_takes_the_best(stacked: bool) -> None:
    policy, q = make(0, (K,)) if stacked else make(Z, ())
    s, z, noise = torch.randn(K, B, S), None if stacked else torch.randn(K, B, Z), torch.randn(K, B, M * L)
    expected, clipped = act_by_loops(policy, q, s, z, noise)
    torch.testing.assert_close(policy.act(s, z, noise), expected)
    assert 0 < clipped < K * B, "both cases were tried"


def test_noise_is_a_latent_a_candidate_and_all_of_it_is_used() -> None:
    policy, _ = make(Z, ())
    assert policy.noise_dim == M * L
    noise = torch.zeros(1, 1, M * L, requires_grad=True)
    seen = []
    policy = BCQPolicy(policy.generator, policy.perturbation, lambda s, a, z: seen.append(a) or a.sum(-1), M, PHI)
    policy.act(torch.randn(1, 1, S), torch.randn(1, 1, Z), noise)
    seen[0].sum().backward()
    assert noise.grad.all()


def test_larger_noise_is_clipped() -> None:
    policy, _ = make(Z, ())
    s, z, sign = torch.randn(K, B, S), torch.randn(K, B, Z), torch.randn(K, B, M * L).sign()
    assert torch.equal(policy.act(s, z, 0.5 * sign), policy.act(s, z, 7 * sign))
