"""E x K stacked reward networks against as many separate ones (Algorithm 2)."""

import pytest
import torch
import torch.nn.functional as F
from references import assert_same_weights, separate
from torch.optim import Adam

from mbml_lightning.algorithms import TransitionEnsemble
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.types import TaskBatch, Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

E, K, B = 4, 3, 5


def ensemble(make, independent: bool, target: str = "rewards") -> TransitionEnsemble:
    settings = {"hidden": (8,), "lr": 1e-2, "batch_size": B, "independent_minibatches": independent, "target": target}
    return make(TransitionEnsemble, num_tasks=K, members=E, **settings)


def rows_of(member: int, t: Transitions, k: int, independent: bool, target: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The (s, a) and rewards or next states of task k that one member learns from."""
    mine = slice(member * B, (member + 1) * B) if independent else slice(None)
    return torch.cat([t.observations[k, mine], t.actions[k, mine]], 1), getattr(t, target)[k, mine].view(B, -1)


@pytest.mark.parametrize("target", ["rewards", "next_observations"])
@pytest.mark.parametrize("independent", [False, True])
def test_update_equals_separate_updates(make, batch, independent: bool, target: str) -> None:
    model = ensemble(make, independent, target)
    assert model.batch_size == B * (E if independent else 1)
    nets = {(e, k): separate(model.ensemble, e, k) for e in range(E) for k in range(K)}
    optimizers = {index: Adam(net.parameters(), 1e-2) for index, net in nets.items()}
    for _ in range(4):
        data = batch(K, model.batch_size)
        loss = model.update(data)["reward_loss" if target == "rewards" else "next_state_loss"]
        errors = []
        for (e, k), net in nets.items():
            x, y = rows_of(e, data.transitions, k, independent, target)
            optimizers[e, k].zero_grad()
            error = F.mse_loss(net(x), y)
            error.backward()
            optimizers[e, k].step()
            errors.append(error.item())
        assert loss.item() == pytest.approx(sum(errors) / len(errors))
    for (e, k), net in nets.items():
        assert_same_weights(model.ensemble, net, e, k)


def test_members_with_minibatches_of_their_own_do_not_see_others_rows(make, batch) -> None:
    model = ensemble(make, True)
    data = batch(K, E * B)
    before = [w.detach().clone() for w in model.ensemble.weights]
    rewards = data.transitions.rewards.clone()
    rewards[:, 2 * B : 3 * B] += 100.0
    state = {name: x.clone() for name, x in model.state_dict().items()}
    after = []
    for r in (data.transitions.rewards, rewards):
        model.load_state_dict(state)
        model.trainer.optimizers[0].state.clear()
        model.update(TaskBatch(data.transitions._replace(rewards=r)))
        after.append([w.detach().clone() for w in model.ensemble.weights])
    for old, plain, changed in zip(before, *after, strict=True):
        assert not torch.equal(old, plain)
        assert [torch.equal(plain[e], changed[e]) for e in range(E)] == [True, True, False, True]


def test_next_states_and_ends_do_not_matter(make, batch) -> None:
    model, data = ensemble(make, False), batch(K, B)
    t = data.transitions
    other = t._replace(next_observations=t.next_observations + 1, terminations=1 - t.terminations)
    state = {name: x.clone() for name, x in model.state_dict().items()}
    first = model.update(data)
    model.load_state_dict(state)
    assert torch.equal(first["reward_loss"], model.update(TaskBatch(other))["reward_loss"])


def test_does_not_act(make) -> None:
    with pytest.raises(ConfigurationError, match="does not act"):
        ensemble(make, False).policy()
