"""Products of Gaussian factors against loops and against densities, and what the encoder reads."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from references import at, gaussian, separate, spread
from references import product as product_by_loops
from torch import Tensor
from torch.distributions import Normal

from mbml_lightning.nets.task_encoder import SMALLEST_VARIANCE, TaskEncoder, product, sample
from mbml_lightning.types import Gaussian, Transitions

C, Z = 5, 3


def factors(*leading: int) -> Gaussian:
    return gaussian(*leading, Z)


def assert_equal(actual: Gaussian, expected: Gaussian, **tolerance: float) -> None:
    torch.testing.assert_close(actual.mean, expected.mean, **tolerance)
    torch.testing.assert_close(actual.variance, expected.variance, **tolerance)


@given(st.lists(st.booleans(), min_size=1, max_size=9), st.integers(0, 1000))
def test_masked_product_against_loops(mask: list[bool], seed: int) -> None:
    torch.manual_seed(seed)
    rows = factors(len(mask))
    expected = product_by_loops((at(rows, c) for c, taken in enumerate(mask) if taken), Z)
    assert_equal(product(rows, torch.tensor(mask)), expected)


def test_without_a_mask_all_rows_take_part() -> None:
    rows = factors(2, C)
    assert_equal(product(rows), product(rows, torch.ones(2, C, dtype=torch.bool)))
    assert_equal(at(product(rows), 1), product_by_loops((at(rows, 1, c) for c in range(C)), Z))


def test_is_the_normalised_product_of_densities() -> None:
    """log p(z) - sum_c log p_c(z) does not depend on z."""
    rows = factors(C)
    posterior = product(rows)

    def excess(z: Tensor) -> Tensor:
        each = Normal(rows.mean, rows.variance.sqrt()).log_prob(z).sum(0)
        return Normal(posterior.mean, posterior.variance.sqrt()).log_prob(z) - each

    torch.testing.assert_close(excess(torch.randn(Z)), excess(torch.randn(Z)))


def test_order_of_rows_does_not_matter() -> None:
    rows, mask, order = factors(C), torch.rand(C) < 0.6, torch.randperm(C)
    assert_equal(product(Gaussian(*(x[order] for x in rows)), mask[order]), product(rows, mask))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_masked_rows_have_no_influence(dtype: torch.dtype) -> None:
    """To the last bit, however large their means and however small their variances."""
    rows = Gaussian(*(x.to(dtype) for x in factors(C)))
    mask = torch.tensor([True, False, True, False, True])
    wild = Gaussian(rows.mean.clone(), rows.variance.clone())
    wild.mean[~mask], wild.variance[~mask] = 1e25, SMALLEST_VARIANCE
    expected, actual = product(rows, mask), product(wild, mask)
    assert torch.equal(actual.mean, expected.mean)
    assert torch.equal(actual.variance, expected.variance)


def test_masked_rows_have_no_gradient() -> None:
    rows = Gaussian(*(x.requires_grad_() for x in factors(C)))
    mask = torch.tensor([True, False, True, False, True])
    sum(x.sum() for x in product(rows, mask)).backward()
    for x in rows:
        assert x.grad[mask].all()
        assert not x.grad[~mask].any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("part", ["mean", "variance"])
def test_rows_that_are_no_numbers_are_masked_too_and_never_silent_otherwise(bad: float, part: str) -> None:
    """As after the end of an episode, whose later steps nobody vouches for."""
    rows, mask = factors(C), torch.tensor([True, False, True, True, True])
    expected = product(rows, mask)
    getattr(rows, part)[1] = bad
    assert_equal(product(rows, mask), expected, rtol=0, atol=0)
    if (part, bad) != ("variance", float("inf")):  # which says: this row knows nothing
        assert not product(rows).mean.isfinite().any()


def test_empty_product_is_the_prior() -> None:
    masked = product(factors(2, C), torch.zeros(2, C, dtype=torch.bool))
    for empty in (masked, product(factors(2, 0)), product(factors(2, 0), torch.zeros(2, 0, dtype=torch.bool))):
        assert torch.equal(empty.mean, torch.zeros(2, Z))
        assert torch.equal(empty.variance, torch.ones(2, Z))


def test_empty_product_has_no_gradient() -> None:
    rows = Gaussian(*(x.requires_grad_() for x in factors(C)))
    sum(x.sum() for x in product(rows, torch.zeros(C, dtype=torch.bool))).backward()
    assert not any(x.grad.any() for x in rows)


def test_prior_is_no_factor_of_a_product() -> None:
    """One row is its own posterior."""
    rows = factors(1)
    assert_equal(product(rows, torch.tensor([True])), Gaussian(*(x[0] for x in rows)))


def test_factors_broadcast_against_masks() -> None:
    """As the triplet needs: c_i on one side, a mask for every pair on the other."""
    own, kept = factors(4, C), torch.rand(4, 4, C) < 0.5
    for dim in (0, 1):
        pooled = product(Gaussian(*(x.unsqueeze(dim) for x in own)), kept)
        assert pooled.mean.shape == (4, 4, Z)
        for i in range(4):
            for j in range(4):
                rows = [at(own, i if dim else j, c) for c in range(C) if kept[i, j, c]]
                assert_equal(at(pooled, i, j), product_by_loops(rows, Z))


def test_sample_scales_noise_by_the_standard_deviation(monkeypatch: pytest.MonkeyPatch) -> None:
    posterior, noise = factors(4), torch.randn(4, Z)
    monkeypatch.setattr(torch, "randn_like", lambda x: noise)
    for i in range(4):
        for d in range(Z):
            expected = posterior.mean[i, d].item() + posterior.variance[i, d].item() ** 0.5 * noise[i, d].item()
            assert sample(posterior)[i, d].item() == pytest.approx(expected)


def test_sample_is_reparametrised() -> None:
    posterior = Gaussian(*(x.requires_grad_() for x in factors(4)))
    sample(posterior).sum().backward()
    assert torch.equal(posterior.mean.grad, torch.ones(4, Z))
    assert posterior.variance.grad.all()


def transitions(*leading: int) -> Transitions:
    s, a, next_s = (torch.randn(*leading, n) for n in (4, 2, 4))
    return Transitions(s, a, torch.randn(leading), next_s, torch.zeros(leading))


def test_encoder_reads_s_a_next_s_r_and_gives_mean_and_softplus_variance() -> None:
    encoder, rows = spread(TaskEncoder(4, 2, Z, [8])), transitions(2, C)
    out, net = encoder(rows), separate(encoder.mlp)
    for i in range(2):
        for c in range(C):
            x = [*rows.observations[i, c], *rows.actions[i, c], *rows.next_observations[i, c], rows.rewards[i, c]]
            y = net(torch.tensor(x))
            torch.testing.assert_close(out.mean[i, c], y[:Z])
            torch.testing.assert_close(out.variance[i, c], F.softplus(y[Z:]).clamp_min(1e-7))


def test_variances_have_a_floor() -> None:
    encoder = TaskEncoder(4, 2, Z, [8])
    encoder.mlp.biases[-1].data[Z:] = -100.0
    assert (encoder(transitions(C)).variance == 1e-7).all()


def test_time_limits_and_ends_are_not_read() -> None:
    encoder, rows = TaskEncoder(4, 2, Z, [8]), transitions(C)
    assert_equal(encoder(rows), encoder(rows._replace(terminations=torch.ones(C))), rtol=0, atol=0)


def columns(rows: Transitions) -> Tensor:
    return torch.cat([rows.observations, rows.actions, rows.next_observations, rows.rewards.unsqueeze(-1)], -1)


def test_standardised_encoder_sees_inputs_of_mean_zero_and_deviation_one(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, rows = TaskEncoder(4, 2, Z, [8]), transitions(2, 50)
    rows = rows._replace(observations=5 + 3 * rows.observations, rewards=0.01 * rows.rewards - 2)
    encoder.standardise(rows)
    seen = []
    monkeypatch.setattr(encoder.mlp, "forward", lambda x: seen.append(x) or torch.zeros(*x.shape[:-1], 2 * Z))
    encoder(rows)
    flat = seen[0].flatten(0, 1)
    torch.testing.assert_close(flat.mean(0), torch.zeros(11), rtol=0, atol=1e-9)
    torch.testing.assert_close(flat.std(0), torch.ones(11))
    order = columns(rows).flatten(0, 1)
    torch.testing.assert_close(flat * order.std(0) + order.mean(0), order, msg="each column by its own numbers")


def test_standardisation_is_of_the_rows_once_given_and_travels_with_the_weights() -> None:
    encoder, other, rows = TaskEncoder(4, 2, Z, [8]), TaskEncoder(4, 2, Z, [8]), transitions(30)
    new = transitions(C)
    before = encoder(new)
    encoder.standardise(rows._replace(rewards=3 * rows.rewards + 1))
    assert not torch.allclose(encoder(new).mean, before.mean)
    shift, spread = columns(rows).mean(0), columns(rows).std(0)
    shift[-1], spread[-1] = 3 * shift[-1] + 1, 3 * spread[-1]
    y = encoder.mlp((columns(new) - shift) / spread)
    torch.testing.assert_close(encoder(new).mean, y[:, :Z])
    other.load_state_dict(encoder.state_dict())
    assert_equal(other(new), encoder(new), rtol=0, atol=0)


def test_inputs_that_never_change_are_no_division_by_zero() -> None:
    encoder, rows = TaskEncoder(4, 2, Z, [8]), transitions(30)
    encoder.standardise(rows._replace(rewards=torch.ones(30)))
    assert all(x.isfinite().all() for x in encoder(rows))
