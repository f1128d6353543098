"""What all methods that infer their task share: several contexts, hooks, and who learns from what."""

import pytest
import torch
from references import Scripted, at, learners, product
from torch import Tensor, nn

from mbml_lightning.algorithms import PEARL, ContextualBCQ, MultiTaskBC
from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.data.rows import Window
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.objectives.hard_mining import HardMiningTriplet
from mbml_lightning.objectives.hooks import StepHook
from mbml_lightning.objectives.reconstruction import Reconstruction
from mbml_lightning.objectives.task_classifier import TaskClassifier
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import TaskBatch, Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, C, N, Z = 3, 6, 4, 3, 2
SETTINGS = {
    ContextualBCQ: {"q_hidden": (8,), "vae_hidden": (7,), "perturbation_hidden": (6,)},
    PEARL: {"hidden": (8,)},
    MultiTaskBC: {"hidden": (8,)},
}
COMMON = {"num_tasks": K, "encoder_hidden": (8,), "z_dim": Z, "batch_size": B, "context_size": C}
every_method = pytest.mark.parametrize("method", SETTINGS)


@pytest.fixture
def model(make, method) -> ContextualAlgorithm:
    """Without relabeller and hooks."""
    return make(method, **SETTINGS[method], **COMMON)


def undescended(model: ContextualAlgorithm, data: TaskBatch, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """The losses of an update whose optimisers do not step."""
    monkeypatch.setattr(model, "step", lambda optimizer, loss: None)
    return model.update(data)


@every_method
def test_each_context_has_a_window_of_its_own(make, method):
    options = SETTINGS[method] | COMMON
    assert make(method, **options).plan.window is None
    plan = make(method, **options, context_sets=N, context_window=9).plan
    assert (plan.context_rows, plan.window) == (N * C, Window(C, 9))


WHO = {
    # the critics' gradient of a perturbation or an actor is not used: their optimiser does not step on it
    ContextualBCQ: {
        "vae_loss": {"generator", "latent"},
        "q_loss": {"encoder", "q"},
        "kl_loss": set(),  # of weight 0
        "perturbation_loss": {"perturbation", "q"},
        "triplet_loss": {"encoder"},
    },
    PEARL: {
        "q_loss": {"encoder", "q"},
        "kl_loss": {"encoder"},
        "v_loss": {"v"},
        "actor_loss": {"actor", "q"},
        "triplet_loss": {"encoder"},
    },
    MultiTaskBC: {"actor_loss": {"encoder", "actor"}, "kl_loss": {"encoder"}, "triplet_loss": {"encoder"}},
}


@every_method
def test_who_learns_from_what(make, batch, monkeypatch, method) -> None:
    hooks = {"triplet": RelabelledTriplet(margin=1e6)}
    model = make(method, **SETTINGS[method], **COMMON, relabeller=Scripted(K, C), hooks=hooks)
    losses = undescended(model, batch(K, B, C), monkeypatch)
    del losses["kept_fraction"]
    assert {name: learners(model, loss) for name, loss in losses.items()} == WHO[method]


@every_method
def test_every_parameter_has_one_optimiser_and_targets_have_none(model) -> None:
    optimised = [id(p) for adam in model.optimizer_list() for p in adam.param_groups[0]["params"]]
    assert len(optimised) == len(set(optimised))
    assert set(optimised) == {id(p) for p in model.parameters() if p.requires_grad}
    assert not any(p.requires_grad for name, p in model.named_parameters() if "target" in name)


class Pull(StepHook):
    """Pulls a parameter of its own towards 1, and posteriors towards it."""

    def __init__(self) -> None:
        super().__init__()
        self.target = nn.Parameter(torch.zeros(Z))

    def forward(self, step):
        return (step.posterior.mean - self.target).square().sum() + (self.target - 1).square().sum()


@every_method
def test_hooks_teach_the_encoder_and_their_own_parameters(make, batch, monkeypatch, method) -> None:
    model = make(method, **SETTINGS[method], **COMMON, lr=1e-2, hooks={"pull": Pull()})
    data = batch(K, B, C)
    with monkeypatch.context() as patch:
        losses = undescended(model, data, patch)
        means = model.infer(data, model.relabel(data)).posterior.mean
        assert losses["pull_loss"].item() == pytest.approx(means.square().sum().item() + Z)
        assert learners(model, losses["pull_loss"]) == {"encoder", "hooks"}
    model.update(data)
    gradient = -2 * (means.sum(0) + 1)  # of a first step of Adam, only the sign counts
    torch.testing.assert_close(model.hooks["pull"].target.data, -1e-2 * gradient.sign(), rtol=1e-5, atol=0)


@every_method
def test_networks_of_hooks_learn_by_their_own_losses_in_the_methods_optimiser(make, batch, monkeypatch, method) -> None:
    hooks = {"classifier": TaskClassifier((8,)), "model": Reconstruction("squared", (8,))}
    model = make(method, **SETTINGS[method], **COMMON, lr=1e-2, hooks=hooks)
    data, decoders = batch(K, B, C), model.hooks["model"].decoders
    owners = {
        "classifier_loss": model.hooks["classifier"],
        "model_reward_loss": decoders["reward"],
        "model_next_state_loss": decoders["next_state"],
    }
    torch.manual_seed(1)
    with monkeypatch.context() as patch:
        losses = undescended(model, data, patch)
    expected: dict[nn.Parameter, Tensor] = {}
    for name, owner in owners.items():
        assert learners(model, losses[name]) == {"encoder", "hooks"}
        for parameter in model.hooks.parameters():
            (g,) = torch.autograd.grad(losses[name], parameter, retain_graph=True, allow_unused=True)
            assert (g is not None) == any(parameter is own for own in owner.parameters())
            if g is not None:
                expected[parameter] = parameter.detach() - 1e-2 * g / (g.abs() + 1e-8)  # Adam's first step
    torch.manual_seed(1)
    assert owners.keys() < model.update(data).keys()
    assert expected.keys() == set(model.hooks.parameters())
    for parameter, value in expected.items():
        torch.testing.assert_close(parameter.data, value)


@every_method
def test_a_hook_with_the_name_of_another_loss_is_refused(make, batch, method) -> None:
    model = make(method, **SETTINGS[method], **COMMON, hooks={"kl": Pull()})
    with pytest.raises(ConfigurationError, match=r"model\.hooks: kl_loss is a loss of .* rename the hook"):
        model.update(batch(K, B, C))


class Odd(StepHook):
    """Returns what it was given."""

    def __init__(self, loss) -> None:
        super().__init__()
        self.loss = loss

    def forward(self, step):
        return self.loss


@pytest.mark.parametrize("loss", [0.5, [torch.zeros(())], torch.zeros(3), {"a": torch.zeros(()), "b": 1.0}])
def test_a_hook_that_returns_no_scalar_is_named(make, batch, loss) -> None:
    model = make(MultiTaskBC, hidden=(8,), **COMMON, hooks={"odd": Odd(loss)})
    with pytest.raises(ConfigurationError, match=r"model\.hooks\.odd: odd\w* is no scalar tensor"):
        model.update(batch(K, B, C))


def test_networks_of_hooks_that_no_optimiser_trains_are_named(make) -> None:
    class Forgetful(MultiTaskBC):
        def configure_optimizers(self):
            return self.adam(self.lr, self.encoder, self.actor)

    with pytest.raises(ConfigurationError, match=r"Forgetful\.configure_optimizers leaves out self\.hooks"):
        make(Forgetful, hidden=(8,), **COMMON, hooks={"pull": Pull()}).on_fit_start()
    make(MultiTaskBC, hidden=(8,), **COMMON, hooks={"pull": Pull()}).on_fit_start()


# Several contexts a task ----------------------------------------------------------------------------------------


@every_method
def test_sets_are_the_posteriors_of_each_context_and_z_comes_from_the_first(make, batch, method) -> None:
    hooks = {"triplet": HardMiningTriplet()}
    model = make(method, **SETTINGS[method], **COMMON, context_sets=N, hooks=hooks)
    assert model.context_rows == N * C
    data = batch(K, B, N * C)
    step = model.infer(data, model.relabel(data))
    for i in range(K):
        for n in range(N):
            rows = range(n * C, (n + 1) * C)
            factors = [model.encoder(Transitions(*(x[i, t] for x in data.contexts))) for t in rows]
            torch.testing.assert_close(at(step.sets, i, n), product(factors, Z))
    torch.testing.assert_close(step.posterior, type(step.posterior)(*(x[:, 0] for x in step.sets)))
    assert model.update(data)["triplet_loss"].item() == pytest.approx(model.hooks["triplet"](step).item())


@every_method
def test_only_the_first_context_is_relabelled(make, batch, method) -> None:
    scripted, seen = Scripted(K, C), []
    model = make(method, **SETTINGS[method], **COMMON, context_sets=N, relabeller=scripted)
    data = batch(K, B, N * C)
    relabel = type(scripted).__call__
    model.relabeller = lambda contexts, index: seen.append((contexts, index)) or relabel(scripted, contexts, index)
    step = model.infer(data, model.relabel(data))
    ((contexts, index),) = seen
    assert torch.equal(index, data.context_index[:, :C])
    assert all(torch.equal(x, y[:, :C]) for x, y in zip(contexts, data.contexts, strict=True))
    assert step.own.mean.shape == (K, C, Z) and step.sets.mean.shape == (K, N, Z)


@every_method
def test_one_context_leaves_no_sets(model, batch) -> None:
    step = model.infer(batch(K, B, C), None)
    assert (step.sets, step.relabelled, step.kept, step.kept_fraction) == (None, None, None, None)
