"""The triplet loss of relabelled contexts against Eq. 8 and 9, written as loops over pairs of tasks."""

import itertools

import pytest
import torch
from references import at, divergence, gaussian, product
from steps import context_step
from torch import Tensor

from mbml_lightning.objectives import triplet
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.objectives.triplet import RelabelledTriplet, pair_mean, random_rows, triplet_hinge
from mbml_lightning.types import Gaussian

K, C, Z = 4, 5, 3


def step(kept: Tensor) -> ContextStep:
    own, relabelled = gaussian(K, C, Z), gaussian(K, K, C, Z)
    return context_step(own, relabelled=relabelled, kept=kept)


def random_masks(kind: str) -> Tensor:
    kept = torch.rand(K, K, C) < 0.6
    if kind == "all":
        kept[:] = True
    if kind == "empty pairs":
        kept[0, 1] = kept[2, 3] = False
    if kind == "task without any":
        kept[1] = False
    if kind == "none":
        kept[:] = False
    kept[range(K), range(K)] = False
    return kept


def triplet_by_loops(s: ContextStep, drawn: Tensor, margin: float, official: bool) -> float:
    """Eq. 8 and 9; ``drawn[i, j]`` marks the rows of c_i that were drawn to go with c_{j->i}."""
    terms = []
    for i, j in itertools.permutations(range(K), 2):
        rows = [c for c in range(C) if s.kept[i, j, c]]
        if not rows:
            terms += [margin] * official
            continue
        anchor = product((at(s.relabelled, i, j, c) for c in rows), Z)
        negative = product((at(s.own, j, c) for c in rows), Z)
        positive = product((at(s.own, i, c) for c in range(C) if drawn[i, j, c]), Z)
        terms.append(max(0.0, divergence(anchor, positive).item() - divergence(anchor, negative).item() + margin))
    return sum(terms) / len(terms) if terms else 0.0


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The masks that `random_rows` returned."""
    masks: list[Tensor] = []

    def record(count: Tensor, rows: int) -> Tensor:
        masks.append(random_rows(count, rows))
        return masks[-1]

    monkeypatch.setattr(triplet, "random_rows", record)
    return masks


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("kind", ["random", "all", "empty pairs", "task without any", "none"])
def test_against_loops(kind: str, official: bool, drawn: list[Tensor]) -> None:
    for margin in (0.0, 2.0):
        s = step(random_masks(kind))
        loss = RelabelledTriplet(margin, count_empty_pairs=official)(s)
        assert loss.item() == pytest.approx(triplet_by_loops(s, drawn[-1], margin, official), rel=1e-9)
        assert (drawn[-1].sum(-1) == s.kept.sum(-1)).all(), "as many positives as anchors"


def test_all_rows_leave_nothing_to_chance() -> None:
    """With every row kept, the positive is all of c_i: the loss is a function of its inputs."""
    s = step(random_masks("all"))
    everything = torch.ones(K, K, C, dtype=torch.bool)
    expected = triplet_by_loops(s, everything, 2.0, False)
    assert [RelabelledTriplet()(s).item() for _ in range(3)] == pytest.approx([expected] * 3, rel=1e-9)


def test_weight_is_a_factor() -> None:
    s = step(random_masks("all"))
    assert RelabelledTriplet(weight=0.3)(s).item() == pytest.approx(0.3 * RelabelledTriplet()(s).item())


def constant_step(anchor_is_own_of: str) -> ContextStep:
    """Contexts whose rows are all alike, the tasks far from each other; anchors sit on c_i or on c_j."""
    mean = 5.0 * torch.arange(K, dtype=torch.get_default_dtype()).view(K, 1, 1).expand(K, C, Z)
    own = Gaussian(mean, torch.ones(K, C, Z))
    dim = 1 if anchor_is_own_of == "i" else 0
    relabelled = Gaussian(*(x.unsqueeze(dim).expand(K, K, C, Z) for x in own))
    return context_step(own, relabelled=relabelled, kept=random_masks("all"))


def test_no_loss_where_relabelled_contexts_are_like_the_rewarding_task() -> None:
    assert RelabelledTriplet(margin=2.0)(constant_step("i")).item() == 0.0


def test_loss_where_the_encoder_reads_states_and_actions_only() -> None:
    """c_{j->i} then looks like c_j: mean over pairs of 1/2 C Z (5 (i - j))^2, and the margin."""
    pairs = list(itertools.permutations(range(K), 2))
    expected = 2.0 + sum(0.5 * C * Z * (5.0 * (i - j)) ** 2 for i, j in pairs) / len(pairs)
    assert RelabelledTriplet(margin=2.0)(constant_step("j")).item() == pytest.approx(expected)


def test_descent_moves_anchors_towards_positives_and_away_from_negatives() -> None:
    relabelled = Gaussian(torch.full((2, 2, 1, 1), 0.5, requires_grad=True), torch.ones(2, 2, 1, 1))
    own = Gaussian(torch.tensor([0.0, 1.0]).view(2, 1, 1).requires_grad_(), torch.ones(2, 1, 1))
    kept = torch.tensor([[[False], [True]], [[False], [False]]])  # only c_{1->0}
    RelabelledTriplet()(context_step(own, relabelled=relabelled, kept=kept)).backward()
    assert relabelled.mean.grad[0, 1].item() > 0, "towards c_0, away from c_1"
    assert own.mean.grad[0].item() < 0, "c_0 towards the anchor"
    assert own.mean.grad[1].item() < 0, "c_1 away from the anchor"
    assert not relabelled.mean.grad[[0, 1, 1], [0, 0, 1]].any(), "no gradient for pairs that are not there"


@pytest.mark.parametrize("official", [False, True])
def test_empty_pairs_have_no_gradient(official: bool) -> None:
    s = step(random_masks("none"))
    for x in (*s.own, *s.relabelled):
        x.requires_grad_()
    loss = RelabelledTriplet(margin=2.0, count_empty_pairs=official)(s)
    assert loss.item() == (2.0 if official else 0.0)
    loss.backward()
    assert all(x.grad is None or not x.grad.any() for x in (*s.own, *s.relabelled))


def test_hinge_is_zero_beyond_the_margin_and_keeps_its_sign() -> None:
    to_positive, to_negative = torch.tensor([[1.0, 1.0], [3.0, 0.0]]), torch.tensor([[3.0, 3.1], [1.0, 0.0]])
    assert triplet_hinge(to_positive, to_negative, 2.0).tolist() == [[0.0, 0.0], [4.0, 2.0]]
    assert triplet_hinge(to_positive, to_negative, 2.1)[0, 0].item() == pytest.approx(0.1)


def test_pair_mean_leaves_out_or_counts_pairs_without_rows() -> None:
    hinge = torch.tensor([[9.0, 1.0, 2.0], [4.0, 9.0, 9.0], [9.0, 9.0, 9.0]])
    valid = torch.tensor([[False, True, True], [True, False, False], [False, False, False]])
    assert pair_mean(hinge, valid, 5.0, False).item() == pytest.approx((1 + 2 + 4) / 3)
    assert pair_mean(hinge, valid, 5.0, True).item() == pytest.approx((1 + 2 + 4 + 3 * 5) / 6)


@pytest.mark.parametrize("official", [False, True])
def test_a_single_task_has_no_pairs_and_no_loss(official: bool) -> None:
    nothing = torch.zeros(1, 1, dtype=torch.bool)
    assert pair_mean(torch.ones(1, 1), nothing, 2.0, official).item() == 0.0


def test_random_rows_are_exactly_as_many_as_asked() -> None:
    count = torch.arange(C + 1).repeat(50, 1)
    mask = random_rows(count, C)
    assert mask.shape == (50, C + 1, C)
    assert (mask.sum(-1) == count).all()


def test_random_rows_are_uniform_among_all_sets() -> None:
    draws = 12_000
    mask = random_rows(torch.full((draws,), 2), 4)
    sets = (mask * torch.tensor([1, 2, 4, 8])).sum(-1)
    frequencies = torch.stack([(sets == a + b).sum() for a, b in itertools.combinations((1, 2, 4, 8), 2)])
    assert frequencies.sum() == draws
    expected = draws / 6
    assert ((frequencies - expected) ** 2 / expected).sum() < 20.5, "chi-squared of 5 degrees, p = 0.001"


def test_needs_relabelled_contexts() -> None:
    own = gaussian(K, C, Z)
    with pytest.raises(ValueError, match=r"model\.relabeller"):
        RelabelledTriplet()(context_step(own))
