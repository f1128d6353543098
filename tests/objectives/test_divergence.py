"""KL of diagonal Gaussians against its definition."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from references import at, divergence, gaussian
from torch import Tensor
from torch.distributions import Independent, Normal, kl_divergence

from mbml_lightning.objectives.divergence import kl, kl_to_prior
from mbml_lightning.types import Gaussian


def by_loops(p: Gaussian, q: Gaussian) -> Tensor:
    return torch.stack([divergence(at(p, i), at(q, i)) for i in range(len(p.mean))])


def test_against_loops_sums_over_dimensions() -> None:
    p, q = gaussian(7, 3), gaussian(7, 3)
    torch.testing.assert_close(kl(p, q), by_loops(p, q))


def test_against_torch_distributions() -> None:
    p, q = gaussian(4, 5, 3), gaussian(4, 5, 3)
    expected = kl_divergence(*(Independent(Normal(x.mean, x.variance.sqrt()), 1) for x in (p, q)))
    torch.testing.assert_close(kl(p, q), expected)


def test_direction() -> None:
    """Of a narrow to a wide one: log 3 + 1/18 - 1/2; the other way round: -log 3 + 9/2 - 1/2."""
    narrow, wide = (Gaussian(torch.zeros(1), torch.tensor([v])) for v in (1.0, 9.0))
    assert kl(narrow, wide).item() == pytest.approx(math.log(3) + 1 / 18 - 0.5)
    assert kl(wide, narrow).item() == pytest.approx(-math.log(3) + 4.0)


def test_is_the_mean_log_ratio_of_samples_of_the_first() -> None:
    p, q = (
        Gaussian(torch.tensor(m), torch.tensor(v)) for m, v in (([0.5, -1.0], [0.5, 2.0]), ([0.0, 0.3], [1.5, 1.0]))
    )
    x = p.mean + p.variance.sqrt() * torch.randn(400_000, 2)
    log_ratio = sum(
        Normal(p.mean[d], p.variance[d].sqrt()).log_prob(x[:, d])
        - Normal(q.mean[d], q.variance[d].sqrt()).log_prob(x[:, d])
        for d in range(2)
    )
    assert log_ratio.mean().item() == pytest.approx(kl(p, q).item(), abs=0.02)


@pytest.mark.parametrize("ratio", [200.0, 1 / 200])
def test_product_of_variance_ratios_may_leave_the_range_of_floats(ratio: float) -> None:
    """20 ratios of 200: their product is 1e46, beyond float32."""
    p = Gaussian(torch.zeros(1, 20), torch.ones(1, 20))
    q = Gaussian(torch.zeros(1, 20), torch.full((1, 20), ratio))
    single = kl(*(Gaussian(*(x.float() for x in g)) for g in (p, q)))
    torch.testing.assert_close(single, by_loops(p, q).float())


def test_broadcasts_one_against_many() -> None:
    p, q = gaussian(2, 1, 3), gaussian(1, 4, 3)
    for i in range(2):
        for j in range(4):
            single = kl(Gaussian(*(x[i] for x in p)), Gaussian(*(x[:, j] for x in q)))
            torch.testing.assert_close(kl(p, q)[i, j], single[0])


def test_kl_to_prior_is_kl_to_the_standard_normal() -> None:
    p = gaussian(6, 4)
    prior = Gaussian(torch.zeros(6, 4), torch.ones(6, 4))
    torch.testing.assert_close(kl_to_prior(p), kl(p, prior))
    torch.testing.assert_close(kl_to_prior(p), by_loops(p, prior))
    assert not torch.allclose(kl_to_prior(p), kl(prior, p))


def vectors(low: float, high: float) -> st.SearchStrategy[list[float]]:
    return st.lists(st.floats(low, high), min_size=3, max_size=3)


means, log_variances = vectors(-10, 10), vectors(-6, 6)


@given(means, log_variances, means, log_variances)
def test_is_not_negative_and_zero_only_for_equals(mu_p: list, log_p: list, mu_q: list, log_q: list) -> None:
    p, q = (Gaussian(torch.tensor(m), torch.tensor(v).exp()) for m, v in ((mu_p, log_p), (mu_q, log_q)))
    assert kl(p, p).item() == 0.0
    assert kl(p, q).item() >= -1e-12
    if (p.mean - q.mean).abs().max() > 1e-3 or (p.variance / q.variance).log().abs().max() > 1e-3:
        assert kl(p, q).item() > 0
