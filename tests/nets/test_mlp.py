"""A stack of networks is as many separate ones: in what they compute, in how they learn, in how they begin."""

import itertools

import pytest
import torch
from references import separate, spread
from torch import Tensor, nn

from mbml_lightning.nets.mlp import MLP, fan_in_uniform, fan_out_uniform

SIZES, B = (3, 8, 6, 2), 5


def indices(members: tuple[int, ...]) -> list[tuple[int, ...]]:
    return list(itertools.product(*map(range, members)))


@pytest.mark.parametrize("members", [(), (4,), (2, 4), (2, 3, 4)])
def test_forward_equals_separate_networks(members: tuple[int, ...]) -> None:
    mlp, x = spread(MLP(SIZES, members)), torch.randn(*members, B, 3)
    y = mlp(x)
    assert y.shape == (*members, B, 2)
    for index in indices(members):
        torch.testing.assert_close(y[index], separate(mlp, *index)(x[index]))


@pytest.mark.parametrize("members", [(), (3,), (2, 3)])
def test_layer_norm_comes_before_each_relu_and_learns_nothing(members: tuple[int, ...]) -> None:
    mlp, x = spread(MLP(SIZES, members, layer_norm=True)), torch.randn(*members, B, 3)
    assert mlp.state_dict().keys() == MLP(SIZES, members).state_dict().keys()
    y = mlp(x)
    gradients = torch.autograd.grad(y.square().sum(), list(mlp.weights), retain_graph=True)
    for index in indices(members):
        layers = [layer for layer in separate(mlp, *index) if isinstance(layer, nn.Linear)]
        h = x[index]
        for layer in layers[:-1]:
            h = layer(h)
            h = torch.relu((h - h.mean(-1, keepdim=True)) / (h.var(-1, correction=0, keepdim=True) + 1e-5).sqrt())
        expected = layers[-1](h)
        torch.testing.assert_close(y[index], expected, rtol=1e-4, atol=1e-4)
        own = torch.autograd.grad(expected.square().sum(), [layer.weight for layer in layers])
        for ours, theirs in zip(gradients, own, strict=True):
            torch.testing.assert_close(ours[index], theirs.T, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("leading", [(), (7,), (2, 7)])
def test_a_single_network_takes_any_leading_axes(leading: tuple[int, ...]) -> None:
    mlp, x = spread(MLP(SIZES)), torch.randn(*leading, 3)
    torch.testing.assert_close(mlp(x), separate(mlp)(x))


@pytest.mark.parametrize("leading", [(), (4,), (1,), (1, 4), (2, 1)])
def test_inputs_broadcast_against_the_stack_from_the_right(leading: tuple[int, ...]) -> None:
    mlp, x = spread(MLP(SIZES, (2, 4))), torch.randn(*leading, B, 3)
    y, every = mlp(x), torch.broadcast_to(x, (2, 4, B, 3))
    assert y.shape == (2, 4, B, 2)
    for index in indices((2, 4)):
        torch.testing.assert_close(y[index], separate(mlp, *index)(every[index]))


def test_inputs_that_do_not_broadcast_are_refused() -> None:
    with pytest.raises(RuntimeError):
        MLP(SIZES, (2, 4))(torch.randn(2, B, 3))


@pytest.mark.parametrize("members", [(2,), (2, 4)])
@pytest.mark.parametrize("member", [0, 1])
def test_one_member_of_the_first_axis(members: tuple[int, ...], member: int) -> None:
    mlp, x = spread(MLP(SIZES, members)), torch.randn(*members[1:], B, 3)
    torch.testing.assert_close(mlp(x, member), mlp(x)[member])
    for index in indices(members[1:]):
        torch.testing.assert_close(mlp(x, member)[index], separate(mlp, member, *index)(x[index]))


@pytest.mark.parametrize("members", [(3,), (2, 3)])
def test_one_adam_makes_the_updates_of_separate_ones(members: tuple[int, ...]) -> None:
    """For a loss that is a mean over the batch and a sum over members, over 50 steps."""
    mlp = spread(MLP(SIZES, members))
    singles = {index: separate(mlp, *index) for index in indices(members)}
    stacked = torch.optim.Adam(mlp.parameters(), 1e-2)
    optimizers = {index: torch.optim.Adam(net.parameters(), 1e-2) for index, net in singles.items()}
    for _ in range(50):
        x, y = torch.randn(*members, B, 3), torch.randn(*members, B, 2)
        stacked.zero_grad()
        (mlp(x) - y).square().mean((-2, -1)).sum().backward()
        stacked.step()
        for index, net in singles.items():
            optimizers[index].zero_grad()
            nn.functional.mse_loss(net(x[index]), y[index]).backward()
            optimizers[index].step()
    for index, net in singles.items():
        for learned, expected in zip(separate(mlp, *index).parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(learned, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("members", [(), (3,)])
def test_the_output_layer_stays_exact_under_autocast(members: tuple[int, ...]) -> None:
    """Hidden layers may be computed in bf16, values and actions may not."""
    x = torch.randn(*members, B, 3).float()
    for sizes, exact in (((3, 2), True), (SIZES, False)):
        mlp = spread(MLP(sizes, members)).float()
        with torch.autocast("cpu", torch.bfloat16):
            y = mlp(x)
        assert y.dtype == torch.float32
        assert torch.equal(y, mlp(x)) == exact
        torch.testing.assert_close(y, mlp(x), rtol=0.05, atol=0.05)


def test_members_do_not_touch_each_other() -> None:
    mlp = spread(MLP(SIZES, (3,)))
    mlp(torch.randn(3, B, 3))[1].sum().backward()
    for p in mlp.parameters():
        assert p.grad[1].any()
        assert not p.grad[[0, 2]].any()


def test_rebuilt_from_a_checkpoint() -> None:
    mlp = spread(MLP(SIZES, (2, 4)))
    state = {f"ensemble.{name}": x for name, x in mlp.state_dict().items()} | {"q.weights.0": torch.zeros(1, 1)}
    rebuilt = MLP.from_state_dict(state, "ensemble.")
    assert (rebuilt.sizes, rebuilt.members) == (SIZES, (2, 4))
    x = torch.randn(4, B, 3)
    assert torch.equal(rebuilt(x), mlp(x))
    assert all(a.data_ptr() != b.data_ptr() for a, b in zip(rebuilt.parameters(), mlp.parameters(), strict=True))


def test_single_network_rebuilt_without_prefix() -> None:
    mlp = spread(MLP(SIZES))
    rebuilt = MLP.from_state_dict(mlp.state_dict())
    assert (rebuilt.sizes, rebuilt.members) == (SIZES, ())
    assert all(torch.equal(a, b) for a, b in zip(rebuilt.parameters(), mlp.parameters(), strict=True))


def test_checkpoint_without_the_network_is_refused() -> None:
    with pytest.raises(ValueError, match=r"ensemble\.weights"):
        MLP.from_state_dict({"q.weights.0": torch.zeros(1, 1)}, "ensemble.")


def fills(x: Tensor, bound: float) -> bool:
    """Uniform in [-bound, bound], as far as the extremes and the spread tell."""
    inside = x.abs().max() <= bound and x.max() > 0.95 * bound and x.min() < -0.95 * bound
    return bool(inside and (x.std() / bound - 3**-0.5).abs() < 0.05)


def test_fan_in_bounds_weights_and_biases_by_the_inputs() -> None:
    mlp = MLP([16, 400, 4], (50,), fan_in_uniform)
    for weight, bias, inputs in zip(mlp.weights, mlp.biases, (16, 400), strict=True):
        assert fills(weight, inputs**-0.5)
        assert fills(bias, inputs**-0.5)


def test_fan_out_bounds_hidden_weights_by_the_outputs() -> None:
    mlp = MLP([16, 400, 100, 4], (50,), fan_out_uniform)
    assert fills(mlp.weights[0], 400**-0.5)
    assert fills(mlp.weights[1], 100**-0.5)
    assert fills(mlp.weights[2], 3e-3)
    assert fills(mlp.biases[2], 3e-3)
    assert all((bias == 0.1).all() for bias in mlp.biases[:2])


def test_members_begin_differently() -> None:
    for init in (fan_in_uniform, fan_out_uniform):
        weight = MLP(SIZES, (2, 3), init).weights[0].flatten(0, 1)
        assert len({tuple(w.flatten().tolist()) for w in weight}) == 6
