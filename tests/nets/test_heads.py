"""Q, G and xi: what they read, in which order, and the range of what they give."""

import pytest
import torch
from references import separate, spread
from torch import Tensor, nn

from mbml_lightning.nets.heads import (
    CandidateEncoder,
    CandidateGenerator,
    Perturbation,
    QFunction,
    StateValue,
    best_candidate,
    clipped_noise,
    perturb,
)

S, A, Z, B, K = 4, 2, 3, 5, 3
L = 2 * A


def by_hand(net: nn.Module, index: tuple[int, ...], *columns: Tensor) -> Tensor:
    """The network at an index, of the columns in this order."""
    return separate(net.mlp, *index)(torch.cat(columns, -1))


def test_q_reads_s_a_z() -> None:
    q, s, a, z = spread(QFunction(S, A, [8], Z)), torch.randn(B, S), torch.randn(B, A), torch.randn(B, Z)
    assert q(s, a, z).shape == (B,)
    torch.testing.assert_close(q(s, a, z), by_hand(q, (), s, a, z)[:, 0])


def test_two_critics_of_every_task_and_the_first_of_them() -> None:
    q, s, a = spread(QFunction(S, A, [8], members=(2, K))), torch.randn(K, B, S), torch.randn(K, B, A)
    values = q(s, a)
    assert values.shape == (2, K, B)
    for critic in range(2):
        for k in range(K):
            torch.testing.assert_close(values[critic, k], by_hand(q, (critic, k), s[k], a[k])[:, 0])
        torch.testing.assert_close(q(s, a, member=critic), values[critic])


def test_generator_reads_s_nu_z_and_squashes() -> None:
    g, s, nu, z = spread(CandidateGenerator(S, A, [8], Z)), torch.randn(B, S), torch.randn(B, L), torch.randn(B, Z)
    assert g.latent_dim == L
    torch.testing.assert_close(g(s, nu, z), torch.tanh(by_hand(g, (), s, nu, z)))


def test_perturbation_reads_s_a_z_and_squashes_without_phi() -> None:
    xi, s, a, z = spread(Perturbation(S, A, [8], Z)), torch.randn(B, S), torch.randn(B, A), torch.randn(B, Z)
    torch.testing.assert_close(xi(s, a, z), torch.tanh(by_hand(xi, (), s, a, z)))


def test_candidate_encoder_reads_s_a_and_clamps_log_std() -> None:
    encoder, s, a = spread(CandidateEncoder(S, A, [8], members=(K,))), 5 * torch.randn(K, B, S), torch.randn(K, B, A)
    mean, std = encoder(s, a)
    for k in range(K):
        y = by_hand(encoder, (k,), s[k], a[k])
        torch.testing.assert_close(mean[k], y[:, :L])
        torch.testing.assert_close(std[k], y[:, L:].clamp(-4, 15).exp())
    raw = torch.cat([by_hand(encoder, (k,), s[k], a[k])[:, L:] for k in range(K)])
    assert raw.min() < -4, "the clamp was tried"


def test_candidate_encoder_of_all_tasks_reads_s_a_z() -> None:
    encoder = spread(CandidateEncoder(S, A, [8], Z))
    s, a, z = torch.randn(B, S), torch.randn(B, A), torch.randn(B, Z)
    y = by_hand(encoder, (), s, a, z)
    mean, std = encoder(s, a, z)
    torch.testing.assert_close(mean, y[:, :L])
    torch.testing.assert_close(std, y[:, L:].clamp(-4, 15).exp())


def test_state_value_reads_s_z() -> None:
    v, s, z = spread(StateValue(S, [8], Z)), torch.randn(B, S), torch.randn(B, Z)
    torch.testing.assert_close(v(s, z), by_hand(v, (), s, z)[:, 0])


def test_perturbation_is_scaled_and_kept_in_the_box() -> None:
    a, xi = torch.tensor([[0.0, 0.99, -0.98]]), torch.tensor([[0.5, 1.0, -1.0]])
    assert perturb(a, xi, 0.05).tolist() == [[pytest.approx(0.025), 1.0, -1.0]]


def test_noise_is_clipped_to_half() -> None:
    assert clipped_noise(torch.tensor([-3.0, -0.5, 0.2, 0.7])).tolist() == [-0.5, -0.5, 0.2, 0.5]


def test_best_candidate_has_the_highest_value() -> None:
    actions, q = torch.randn(K, B, 6, A), torch.randn(K, B, 6)
    best = best_candidate(actions, q)
    for k in range(K):
        for t in range(B):
            values = q[k, t].tolist()
            assert best[k, t].tolist() == actions[k, t, values.index(max(values))].tolist()
