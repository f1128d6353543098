"""A method that standardises states does with them what it would do with states that are standardised."""

import pytest
import torch

from mbml_lightning import algorithms
from mbml_lightning.algorithms.mbml import Teachers
from mbml_lightning.nets.heads import CandidateGenerator, Perturbation, QFunction
from mbml_lightning.nets.standardiser import Standardiser

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, C, S, A = 3, 6, 4, 4, 2
SMALL = {"hidden": (8,), "lr": 1e-2}
INFERENCE = {"num_tasks": K, "encoder_hidden": (8,), "z_dim": 2, "context_size": C}
STUDENT = {"q_hidden": (8,), "perturbation_hidden": (8,), "lr": 1e-2}
ARGUMENTS = {
    "SAC": {"num_tasks": K, "actor_hidden": (8,), "critic_hidden": (8,), "layer_norm": True},
    "BCQ": {"num_tasks": K, "vae_hidden": (8,), "layer_norm": True} | SMALL,
    "ContextualBCQ": INFERENCE | STUDENT | {"vae_hidden": (8,)},
    "MBML": INFERENCE | STUDENT | {"generator_hidden": (8,), "teachers": "made below"},
    "MultiTaskBC": INFERENCE | SMALL,
    "PEARL": INFERENCE | SMALL,
}


@pytest.fixture
def pair(make, request):
    """A method as it is, one of equal weights that standardises states, and its standardiser."""
    kind, arguments = getattr(algorithms, request.param), ARGUMENTS[request.param]
    plain, ours = make(kind, **arguments), make(kind, **arguments, standardise=True)
    if request.param == "MBML":
        nets = [net(S, A, (8,), members=(K,)) for net in (QFunction, CandidateGenerator, Perturbation)]
        seen = Standardiser(S, (K,))  # of teachers that standardise too, and otherwise than the student
        seen.follow(torch.randn(K, 9, S))
        ours.teachers = Teachers(*nets, seen)
        plain.teachers = Teachers(*nets, lambda s: seen(unseen(ours.inputs, s)))
    ours.inputs.follow(2 * torch.randn(K, 20, S) + 5)
    missing = ours.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["inputs.mean", "inputs.std", "inputs.seen"]
    return plain, ours


def unseen(inputs, s):
    """The states that were standardised to ``s``."""
    return s * inputs.std + inputs.mean


@pytest.mark.parametrize("pair", ARGUMENTS, indirect=True)
def test_an_update_is_that_with_states_that_are_standardised(pair, batch) -> None:
    plain, ours = pair
    for seed in range(3):
        data = batch(K, B, C)
        t = data.transitions
        seen = t._replace(observations=ours.inputs(t.observations), next_observations=ours.inputs(t.next_observations))
        losses = []
        for method, transitions in ((ours, t), (plain, seen)):
            torch.manual_seed(seed)
            losses.append({n: x.item() for n, x in method.update(data._replace(transitions=transitions)).items()})
        assert losses[0] == pytest.approx(losses[1])
    for mine, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine, expected)


@pytest.mark.parametrize("pair", ARGUMENTS, indirect=True)
def test_policies_act_on_states_as_they_are(pair) -> None:
    plain, ours = pair
    s, z = torch.randn(K, 5, S), torch.randn(K, 5, 2) if plain.encoder is not None else None
    for name in ["policy", *(["behaviour"] if hasattr(plain, "behaviour") else [])]:
        acting, expected = getattr(ours, name)(), getattr(plain, name)()
        noise = torch.randn(K, 5, acting.noise_dim)
        torch.testing.assert_close(acting.act(s, z, noise), expected.act(ours.inputs(s), z, noise))
        assert not torch.allclose(acting.act(s, z, noise), expected.act(s, z, noise))
