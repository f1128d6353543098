"""Phase 2 against Algorithm 4 and the official code's iteration, written out row by row and pair by pair."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from references import Masks, PlainInference, Scripted, assert_same_weights, learners, separate
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms import BCQ, MBML, contextual, mbml
from mbml_lightning.algorithms.contextual import draw_rows
from mbml_lightning.algorithms.mbml import Teachers, load_teachers
from mbml_lightning.data.relabelling import EnsembleRelabeller, Relabelled, under_every_task
from mbml_lightning.data.rows import Rows
from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.objectives.reconstruction import Reconstruction
from mbml_lightning.objectives.task_classifier import TaskClassifier
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import Gaussian, TaskBatch, Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

K, B, C, S, A, Z, L = 3, 6, 5, 4, 2, 3, 4
SETTINGS = {
    "teachers": "unused",
    "num_tasks": K,
    "encoder_hidden": (8, 7),
    "q_hidden": (9,),
    "generator_hidden": (8,),
    "perturbation_hidden": (7,),
    "z_dim": Z,
    "lr": 1e-2,
    "batch_size": B,
    "context_size": C,
}
NETWORKS = ("encoder", "q", "generator", "perturbation")


@pytest.fixture
def teachers(make) -> BCQ:
    return make(BCQ, num_tasks=K, hidden=(8,), vae_hidden=(7,)).requires_grad_(False)


@pytest.fixture
def student(make, teachers: BCQ) -> Callable[..., MBML]:
    """An MBML with teachers."""

    def construct(**changes) -> MBML:
        model = make(MBML, **(SETTINGS | changes))
        model.teachers = Teachers(
            partial(teachers.networks.q, member=0), teachers.networks.generator, teachers.networks.perturbation
        )
        return model

    return construct


# A reference of one iteration -----------------------------------------------------------------------------------


class Official:
    """Four networks, four Adams, a backward pass for each of their losses (official code, one task after the other)."""

    def __init__(self, model: MBML, teachers: BCQ, inference: PlainInference) -> None:
        self.inference = inference
        self.nets = {name: separate(getattr(model, name).mlp) for name in NETWORKS[1:]}
        self.adams = [inference.adam, *(Adam(net.parameters(), 1e-2) for net in self.nets.values())]
        self.nets["encoder"] = inference.net
        self.teacher_q = [separate(teachers.networks.q.mlp, 0, i) for i in range(K)]
        self.teacher_g = [separate(teachers.networks.generator.mlp, i) for i in range(K)]
        self.teacher_xi = [separate(teachers.networks.perturbation.mlp, i) for i in range(K)]

    def distil(self, t: Transitions, z: Tensor, nu: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eq. 3 to 5 with means over tasks and rows, and over the dimensions of actions."""
        q = g = xi = torch.zeros(())
        for i in range(K):
            for b in range(B):
                s, a, noise, fixed = t.observations[i, b], t.actions[i, b], nu[i, b].clamp(-0.5, 0.5), z[i].detach()
                with torch.no_grad():
                    value = self.teacher_q[i](torch.cat([s, a]))
                    proposed = torch.tanh(self.teacher_g[i](torch.cat([s, noise])))
                    correction = torch.tanh(self.teacher_xi[i](torch.cat([s, proposed])))
                q = q + (value - self.nets["q"](torch.cat([s, a, z[i]]))).square().mean()
                ours = torch.tanh(self.nets["generator"](torch.cat([s, noise, fixed])))
                g = g + (proposed - ours).square().mean()
                ours = torch.tanh(self.nets["perturbation"](torch.cat([s, proposed, fixed])))
                xi = xi + (correction - ours).square().mean()
        return q / (K * B), g / (K * B), xi / (K * B)

    def update(self, batch: TaskBatch, masks: Masks, noise: list[Tensor]) -> dict[str, float]:
        z, losses = self.inference.infer(batch, masks, noise[0])
        losses["q_loss"], losses["candidate_loss"], losses["perturbation_loss"] = self.distil(
            batch.transitions, z, noise[1]
        )
        for adam in self.adams:
            adam.zero_grad()
        if "triplet_loss" in losses:
            losses["triplet_loss"].backward(retain_graph=True)
        (losses["kl_loss"] + losses["q_loss"]).backward()
        losses["candidate_loss"].backward()
        losses["perturbation_loss"].backward()
        for adam in self.adams:
            adam.step()
        return {name: loss.item() for name, loss in losses.items()}


@pytest.mark.parametrize("kept_fraction", [0.15, 0.8], ids=["few rows kept", "many rows kept"])
def test_one_joint_step_is_the_official_update(student, teachers, batch, noise, masks, kept_fraction: float) -> None:
    scripted = Scripted(K, C, kept_fraction)
    model = student(relabeller=scripted, hooks={"triplet": RelabelledTriplet()})
    official = Official(model, teachers, PlainInference(model, scripted, 0.1))
    for _ in range(3):
        data = batch(K, B, C)
        scripted.draw()
        noise.clear()
        losses = model.update(data)
        drawn = list(noise)
        assert [x.shape for x in drawn] == [(K, Z), (K, B, L)]
        expected = official.update(data, masks, drawn)
        assert losses.pop("kept_fraction").item() == pytest.approx(scripted.count() / (K * (K - 1) * C))
        assert {name: x.item() for name, x in losses.items()} == pytest.approx(expected, rel=1e-8)
    for name in NETWORKS:
        assert_same_weights(getattr(model, name).mlp, official.nets[name])


def test_neither_infers_from_own_rows_alone(student, teachers, batch, noise) -> None:
    model = student(kl_weight=0.3)
    official = Official(model, teachers, PlainInference(model, None, 0.3))
    for _ in range(3):
        data = batch(K, B, C)
        noise.clear()
        losses = {name: x.item() for name, x in model.update(data).items()}
        assert losses == pytest.approx(official.update(data, {}, list(noise)), rel=1e-8)
    for name in NETWORKS:
        assert_same_weights(getattr(model, name).mlp, official.nets[name])


def test_kl_may_be_averaged_over_tasks_instead(student, batch) -> None:
    data, losses = batch(K, B, C), []
    for mean in (False, True):
        model = student(kl_mean_over_tasks=mean)
        torch.manual_seed(1)
        for p in model.encoder.parameters():
            nn.init.normal_(p, std=0.5)
        losses.append(model.update(data)["kl_loss"].item())
    assert losses[0] == pytest.approx(K * losses[1])


# Contexts -------------------------------------------------------------------------------------------------------


def test_relabelled_contexts_have_the_states_and_actions_of_j_and_rewards_of_i(transitions) -> None:
    contexts, rewards = transitions(K, C), torch.randn(K, K, C)
    both = under_every_task(contexts, Relabelled(rewards, rewards > 0))
    for i in range(K):
        for j in range(K):
            assert torch.equal(both.rewards[i, j], rewards[i, j])
            for name in ("observations", "actions", "next_observations", "terminations"):
                assert torch.equal(getattr(both, name)[i, j], getattr(contexts, name)[j]), name


def test_factors_are_those_of_the_encoder(student, batch) -> None:
    scripted = Scripted(K, C, 0.5)
    model, data = student(relabeller=scripted), batch(K, B, C)
    step = model.infer(data, model.relabel(data))
    own = model.encoder(data.contexts)
    for mine, expected, relabelled in zip(step.own, own, step.relabelled, strict=True):
        torch.testing.assert_close(mine, expected)
        for i in range(K):
            torch.testing.assert_close(relabelled[i, i], mine[i])
    for i, j in itertools.permutations(range(K), 2):
        c_ji = Transitions(*(x[j] for x in data.contexts))._replace(rewards=scripted.rewards[i, j])
        torch.testing.assert_close(step.relabelled.mean[i, j], model.encoder(c_ji).mean)
        assert torch.equal(step.kept[i, j], scripted.trusted[i, j])


@pytest.mark.parametrize("combine", [True, False])
def test_posterior_is_blind_to_rows_that_were_not_kept(student, batch, combine: bool) -> None:
    scripted, data = Scripted(K, C, 0.3), batch(K, B, C)
    model = student(relabeller=scripted, combine=combine)
    posteriors = []
    for wild in (0.0, 1e6):
        torch.manual_seed(1)
        scripted.rewards[~scripted.trusted] = wild
        posteriors.append(model.infer(data, model.relabel(data)).posterior)
    assert torch.equal(posteriors[0].mean, posteriors[1].mean)
    assert torch.equal(posteriors[0].variance, posteriors[1].variance)


def test_without_combining_c_rows_are_drawn_from_own_and_relabelled(student, batch, masks) -> None:
    scripted, data = Scripted(K, C, 0.8), batch(K, B, C)
    model = student(relabeller=scripted, combine=False)
    own_rows = 0
    for _ in range(20):
        step = model.infer(data, model.relabel(data))
        pool = step.kept | torch.eye(K, dtype=torch.bool).unsqueeze(-1)
        drawn = masks["context"].view(K, K, C)
        assert (drawn.sum((1, 2)) == C).all()
        assert not (drawn & ~pool).any()
        own_rows += int(sum(drawn[i, i].sum() for i in range(K)))
        for i in range(K):
            chosen = [step.relabelled.variance[i, j, t] for j in range(K) for t in range(C) if drawn[i, j, t]]
            torch.testing.assert_close(step.posterior.variance[i], 1 / sum(1 / v for v in chosen))
    assert 0 < own_rows < 20 * K * C, "from both"


def test_drawn_rows_are_distinct_and_as_many_as_there_are() -> None:
    pool = torch.tensor([[False] * 6, [True, False] * 3, [True] * 6])
    drawn = draw_rows(pool, 4)
    assert drawn.sum(-1).tolist() == [0, 3, 4]
    assert not (drawn & ~pool).any()


def test_drawn_rows_are_uniform() -> None:
    draws = 12_000
    drawn = draw_rows(torch.tensor([True, False, True, True, True]).expand(draws, 5), 2)
    sets = (drawn * torch.tensor([1, 0, 2, 4, 8])).sum(-1)
    frequencies = torch.stack([(sets == a + b).sum() for a, b in itertools.combinations((1, 2, 4, 8), 2)])
    assert frequencies.sum() == draws
    assert ((frequencies - draws / 6) ** 2 / (draws / 6)).sum() < 20.5, "chi-squared of 5 degrees, p = 0.001"


@pytest.mark.parametrize("count_empty", [False, True])
def test_nothing_relabelled_is_no_crash(student, batch, count_empty: bool) -> None:
    relabeller = EnsembleRelabeller("unused", 0.0, precompute=False)
    relabeller.ensemble = MLP([S + A, 8, 1], (4, K)).requires_grad_(False)
    model = student(relabeller=relabeller, hooks={"triplet": RelabelledTriplet(count_empty_pairs=count_empty)})
    losses = model.update(batch(K, B, C))
    assert losses["kept_fraction"].item() == 0
    assert losses["triplet_loss"].item() == (2.0 if count_empty else 0.0)
    assert all(math.isfinite(x.item()) for x in losses.values())
    assert all(p.isfinite().all() for p in model.parameters())


def test_the_triplet_needs_a_relabeller(student, batch) -> None:
    with pytest.raises(ValueError, match=r"model\.relabeller"):
        student(hooks={"triplet": RelabelledTriplet()}).update(batch(K, B, C))


# Who learns from what -------------------------------------------------------------------------------------------


def test_who_learns_from_what(student, batch) -> None:
    model = student(relabeller=Scripted(K, C, 0.8), hooks={"triplet": RelabelledTriplet(margin=1e6)})
    data = batch(K, B, C)
    step = model.infer(data, model.relabel(data))
    losses = model.distil(data.transitions, step)
    assert learners(model, model.hooks["triplet"](step)) == {"encoder"}
    assert learners(model, contextual.kl_to_prior(step.posterior).sum()) == {"encoder"}
    assert learners(model, losses["q_loss"]) == {"encoder", "q"}
    assert learners(model, losses["candidate_loss"]) == {"generator"}
    assert learners(model, losses["perturbation_loss"]) == {"perturbation"}


def test_triplet_reaches_anchor_positive_and_negative(student, batch) -> None:
    model = student(relabeller=Scripted(K, C, 0.8), hooks={"triplet": RelabelledTriplet(margin=1e6)})
    data = batch(K, B, C)
    step = model.infer(data, model.relabel(data))
    own, relabelled = (Gaussian(*(x.detach().requires_grad_() for x in g)) for g in (step.own, step.relabelled))
    model.hooks["triplet"](replace(step, own=own, relabelled=relabelled)).backward()
    assert own.mean.grad.any()
    assert (relabelled.mean.grad.abs().sum(-1) > 0).equal(step.kept)


def test_teachers_and_ensemble_never_change(student, teachers, batch) -> None:
    relabeller = EnsembleRelabeller("unused", 10.0, precompute=False)
    relabeller.ensemble = MLP([S + A, 8, 1], (4, K)).requires_grad_(False)
    model = student(relabeller=relabeller, hooks={"triplet": RelabelledTriplet()})
    frozen = [*teachers.parameters(), *relabeller.ensemble.parameters()]
    before = [p.clone() for p in frozen]
    students = [p.detach().clone() for p in model.parameters()]
    for _ in range(3):
        model.update(batch(K, B, C))
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(frozen, before, strict=True))
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), students, strict=True))
    optimised = {id(p) for group in model.optimizer_list()[0].param_groups for p in group["params"]}
    assert optimised == {id(p) for p in model.parameters()}
    assert not optimised & {id(p) for p in frozen}


def test_networks_of_hooks_learn_with_the_students_and_teachers_do_not(student, teachers, batch) -> None:
    hooks = {"classifier": TaskClassifier((8,)), "reconstruction": Reconstruction(hidden=(8,))}
    model, before = student(hooks=hooks), [p.clone() for p in teachers.parameters()]
    networks = [p.detach().clone() for p in model.hooks.parameters()]
    step = model.infer(data := batch(K, B, C), None)
    for name, loss in model.with_encoder_losses({}, step).items():
        assert learners(model, loss) == {"encoder", *(["hooks"] if name != "kl_loss" else [])}
    names = {"classifier_loss", "reconstruction_reward_loss", "reconstruction_next_state_loss"}
    assert names < model.update(data).keys()
    assert all(not torch.equal(p, old) for p, old in zip(model.hooks.parameters(), networks, strict=True))
    assert all(torch.equal(p, old) and p.grad is None for p, old in zip(teachers.parameters(), before, strict=True))


def test_hooks_with_parameters_learn_too(student, batch) -> None:
    class Pull(RelabelledTriplet):
        def __init__(self) -> None:
            super().__init__()
            self.target = nn.Parameter(torch.zeros(Z))

        def forward(self, step):
            return (step.posterior.mean.detach() - self.target).square().sum()

    model = student(hooks={"pull": Pull()})
    losses = model.update(batch(K, B, C))
    assert "pull_loss" in losses
    assert model.hooks["pull"].target.detach().abs().max().item() == pytest.approx(1e-2, rel=1e-3)


@pytest.mark.parametrize("N", [9, 25])
def test_values_are_learned_in_units_of_each_teacher(student, batch, monkeypatch: pytest.MonkeyPatch, N: int) -> None:
    """Mean 0 and deviation 1 over at most ``SOME`` transitions of the teacher's own task."""
    monkeypatch.setattr(mbml, "SOME", 9)
    plain, ours = student(), student(standardise_values=True)
    ours.load_state_dict(plain.state_dict(), strict=False)
    rows = Rows(torch.randn(K, N, 2 * S + A + 2), S, A, N)
    monkeypatch.setattr(Checkpoint, "read", lambda path: Checkpoint({"mbml": {"weights": ""}}))
    monkeypatch.setattr(mbml, "load_teachers", lambda *_: plain.teachers)
    ours.trainer.datamodule = SimpleNamespace(rows=rows)
    ours.on_fit_start()
    data, some = batch(K, B, C), rows.unpack(rows.packed[:, :: 1 if N == 9 else 3])
    step, t = ours.infer(data, None), data.transitions
    expected = torch.zeros(())
    for i in range(K):
        seen = plain.teachers.q(some.observations, some.actions)[i]
        mean, std = seen.mean(), ((seen - seen.mean()) ** 2).mean().sqrt()
        for b in range(B):
            value = (plain.teachers.q(t.observations, t.actions)[i, b] - mean) / std
            q = ours.q(t.observations[i, b], t.actions[i, b], step.z[i])
            expected = expected + (value - q) ** 2 / (K * B)
    torch.testing.assert_close(ours.distil(t, step)["q_loss"], expected)


# Teachers, students ---------------------------------------------------------------------------------------------


def test_teachers_of_a_checkpoint_are_frozen_and_value_by_the_first_critic(teachers, tmp_path) -> None:
    checkpoint = {"state_dict": teachers.state_dict(), "hyper_parameters": dict(teachers.hparams)}
    Checkpoint.seal(checkpoint, {"method": "BCQ", "distribution": "UmazeGoalM", "data": "of the store"})
    torch.save(checkpoint, tmp_path / "bcq.ckpt")
    path, rows = tmp_path / "bcq.ckpt", Rows(torch.randn(K, 5, 2 * S + A + 2), S, A, 5, digest="of the store")
    loaded = load_teachers(Checkpoint.read(path), "UmazeGoalM", rows)
    s, a, nu = torch.randn(K, B, S), torch.randn(K, B, A), torch.randn(K, B, L)
    assert torch.equal(loaded.q(s, a), teachers.networks.q(s, a)[0])
    assert torch.equal(loaded.generator(s, nu), teachers.networks.generator(s, nu))
    assert torch.equal(loaded.perturbation(s, a), teachers.networks.perturbation(s, a))
    assert not any(x.requires_grad for x in (loaded.q(s, a), loaded.generator(s, nu), loaded.perturbation(s, a)))
    with pytest.raises(CheckpointError, match="PointGoal"):
        load_teachers(Checkpoint.read(path), "PointGoal", rows)
    with pytest.raises(CheckpointError, match="other data"):
        load_teachers(Checkpoint.read(path), "UmazeGoalM", replace(rows, digest="another"))
    with pytest.raises(CheckpointError, match=f"teaches {K} tasks, {K - 1} are learned"):
        load_teachers(Checkpoint.read(path), "UmazeGoalM", replace(rows, packed=rows.packed[1:]))


@pytest.mark.parametrize("standardise", [False, True])
def test_fitting_begins_with_teachers_relabeller_and_standardised_contexts(
    student, monkeypatch: pytest.MonkeyPatch, standardise: bool
) -> None:
    prepared, rows = [], Rows(5 + torch.randn(K, 50, 2 * S + A + 2), S, A, 50, digest="of the store")
    scripted = Scripted(K, C, 0.5)
    teachers, rewards = (Checkpoint({"mbml": {"weights": digest}}) for digest in "tr")
    monkeypatch.setattr(
        Scripted, "prepare", lambda self, rows, distribution: prepared.append(rows) or {"rewards": rewards}
    )
    monkeypatch.setattr(Checkpoint, "read", {"unused": teachers}.get)
    monkeypatch.setattr(mbml, "load_teachers", lambda *arguments: arguments)
    model = student(relabeller=scripted, standardise_context=standardise)
    model.trainer.datamodule = SimpleNamespace(rows=rows)
    model.on_fit_start()
    assert prepared == [rows]
    assert model.teachers == (teachers, "UmazeGoalM", rows)
    assert model.parents == {"teachers": "t", "rewards": "r"}
    inputs = rows.packed[..., :-1].flatten(0, 1)
    torch.testing.assert_close(model.encoder.shift, inputs.mean(0) if standardise else torch.zeros(2 * S + A + 1))
    torch.testing.assert_close(model.encoder.spread, inputs.std(0) if standardise else torch.ones(2 * S + A + 1))


def test_policy_acts_with_the_students(student) -> None:
    model = student(candidates=7, phi=0.2)
    policy = model.policy()
    assert (policy.q, policy.generator, policy.perturbation) == (model.q, model.generator, model.perturbation)
    assert (policy.candidates, policy.phi) == (7, 0.2)


def test_students_begin_like_the_official_code() -> None:
    model = MBML("UmazeGoalM", **SETTINGS)
    for name in NETWORKS:
        mlp = getattr(model, name).mlp
        assert all((bias == 0.1).all() for bias in mlp.biases[:-1])
        assert mlp.weights[-1].abs().max() <= 3e-3
        for weight in mlp.weights[:-1]:
            assert weight.abs().max() <= weight.shape[-1] ** -0.5
