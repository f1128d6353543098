"""Algorithm 3 against loops over tasks, transitions and members; the oracle against environments."""

import statistics
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mbml_lightning import envs
from mbml_lightning.data.relabelling import (
    EnsembleRelabeller,
    OracleRelabeller,
    Relabelled,
    ensemble_prediction,
    with_truth,
)
from mbml_lightning.data.rows import Rows
from mbml_lightning.envs.random_physics import RandomPhysics
from mbml_lightning.errors import CheckpointError, RelabellingError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.types import Transitions

pytestmark = pytest.mark.usefixtures("double_precision")

E, K, N, C, S, A = 4, 3, 50, 6, 4, 2
DATA = "SHA-256 of the store"


def reward_ensemble(members: int = E, outputs: int = 1) -> MLP:
    mlp = MLP([S + A, 8, outputs], (members, K))
    for p in mlp.parameters():
        torch.nn.init.normal_(p, std=0.7)
    return mlp


@pytest.fixture
def ensemble() -> MLP:
    return reward_ensemble()


@pytest.fixture
def dynamics() -> MLP:
    return reward_ensemble(outputs=S)


@pytest.fixture
def rows() -> Rows:
    """Of which the last three are not filled."""
    return Rows(torch.randn(K, N + 3, 2 * S + A + 2), S, A, N, digest=DATA)


def checkpoint(ensemble: MLP, target: str, folder: Path) -> str:
    state = {f"ensemble.{name}": x for name, x in ensemble.state_dict().items()}
    made = {"method": "TransitionEnsemble", "distribution": "UmazeGoalM", "target": target}
    content = {"state_dict": state}
    Checkpoint.seal(content, made | {"data": DATA})
    torch.save(content, folder / f"{target}.ckpt")
    return str(folder / f"{target}.ckpt")


def relabeller(
    ensemble: MLP,
    threshold: float,
    rows: Rows,
    folder: Path,
    precompute: bool,
    dynamics: MLP | None = None,
    next_state_threshold: float | None = None,
) -> EnsembleRelabeller:
    """Made from checkpoints, as a run makes it."""
    rewards = checkpoint(ensemble, "rewards", folder)
    next_states = None if dynamics is None else checkpoint(dynamics, "next_observations", folder)
    relabel = EnsembleRelabeller(rewards, threshold, next_states, next_state_threshold, precompute)
    relabel.prepare(rows, "UmazeGoalM")
    return relabel


def contexts_of(rows: Rows, index: Tensor) -> Transitions:
    return rows.unpack(torch.stack([rows.packed[k, index[k]] for k in range(len(index))]))


def members_say(ensemble: MLP, i: int, s: Tensor, a: Tensor, output: int = 0) -> list[float]:
    """What each member of task i's ensemble predicts for one transition."""
    (w1, w2), (b1, b2) = ensemble.weights, ensemble.biases
    x = torch.cat([s, a])
    return [(torch.relu(x @ w1[e, i] + b1[e, i]) @ w2[e, i] + b2[e, i])[output].item() for e in range(len(w1))]


def median_disagreement(ensemble: MLP, rows: Rows) -> float:
    """A threshold that half of the predictions pass."""
    t = rows.unpack(rows.packed[:, : rows.count])
    return ensemble_prediction(ensemble, t.observations, t.actions)[1].median().item()


@pytest.mark.parametrize("precompute", [True, False], ids=["precomputed", "on the fly"])
def test_against_loops(ensemble: MLP, rows: Rows, tmp_path: Path, precompute: bool) -> None:
    """Task i's ensemble on task j's transitions stands at [i, j]."""
    threshold = median_disagreement(ensemble, rows)
    index = torch.randint(N, (K, C))
    contexts = contexts_of(rows, index)
    rewards, kept, next_s = relabeller(ensemble, threshold, rows, tmp_path, precompute)(contexts, index)
    assert next_s is None
    for i in range(K):
        for j in range(K):
            for c in range(C):
                said = members_say(ensemble, i, contexts.observations[j, c], contexts.actions[j, c])
                if i == j:
                    assert rewards[i, j, c].item() == contexts.rewards[j, c].item(), "true, not predicted"
                    assert not kept[i, j, c]
                else:
                    assert rewards[i, j, c].item() == pytest.approx(statistics.mean(said))
                    assert kept[i, j, c].item() == (statistics.stdev(said) < threshold)
    assert 0 < kept.sum() < K * (K - 1) * C, "both cases were tried"


@pytest.mark.parametrize("precompute", [True, False], ids=["precomputed", "on the fly"])
def test_next_states_against_loops(ensemble: MLP, dynamics: MLP, rows: Rows, tmp_path: Path, precompute: bool) -> None:
    """Next states are the means of their own ensemble; only rows that both ensembles are sure of are kept."""
    thresholds = [median_disagreement(networks, rows) for networks in (ensemble, dynamics)]
    index = torch.randint(N, (K, C))
    contexts = contexts_of(rows, index)
    relabel = relabeller(ensemble, thresholds[0], rows, tmp_path, precompute, dynamics, thresholds[1])
    _, kept, next_s = relabel(contexts, index)
    sure = torch.zeros(2, K, K, C, dtype=torch.bool)
    for i in range(K):
        for j in range(K):
            for c in range(C):
                s, a = contexts.observations[j, c], contexts.actions[j, c]
                said = [members_say(dynamics, i, s, a, output) for output in range(S)]
                if i == j:
                    assert torch.equal(next_s[i, j, c], contexts.next_observations[j, c]), "true, not predicted"
                    continue
                assert next_s[i, j, c].tolist() == pytest.approx([statistics.mean(x) for x in said])
                sure[0, i, j, c] = statistics.stdev(members_say(ensemble, i, s, a)) < thresholds[0]
                sure[1, i, j, c] = statistics.mean([statistics.stdev(x) for x in said]) < thresholds[1]
    assert torch.equal(kept, sure[0] & sure[1])
    assert 0 < kept.sum() < min(sure[0].sum(), sure[1].sum()), "each ensemble refused rows that the other trusted"


def test_next_states_stay_without_their_threshold(ensemble: MLP, dynamics: MLP, rows: Rows, tmp_path: Path) -> None:
    index = torch.randint(N, (K, C))
    relabelled = relabeller(ensemble, 1.0, rows, tmp_path, False, dynamics)(contexts_of(rows, index), index)
    assert relabelled.next_observations is None
    with pytest.raises(ValueError, match="give both or neither"):
        EnsembleRelabeller("rewards.ckpt", 1.0, next_state_threshold=1.0)


def test_ensembles_of_something_else_are_refused(ensemble: MLP, dynamics: MLP, rows: Rows, tmp_path: Path) -> None:
    wrong = checkpoint(dynamics, "next_observations", tmp_path)
    with pytest.raises(CheckpointError, match="target is next_observations, rewards is needed"):
        EnsembleRelabeller(wrong, 1.0).prepare(rows, "UmazeGoalM")
    with pytest.raises(CheckpointError, match="other tasks or dimensions"):
        EnsembleRelabeller(checkpoint(ensemble, "rewards", tmp_path), 1.0).prepare(
            Rows(rows.packed[1:], S, A, N, digest=DATA), "UmazeGoalM"
        )
    with pytest.raises(CheckpointError, match="was trained on other data"):
        EnsembleRelabeller(checkpoint(ensemble, "rewards", tmp_path), 1.0).prepare(
            Rows(rows.packed, S, A, N, digest="another"), "UmazeGoalM"
        )


def test_precomputed_rewards_are_those_computed_on_the_fly(
    ensemble: MLP, rows: Rows, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    threshold, index = median_disagreement(ensemble, rows), torch.randint(N, (K, C))
    monkeypatch.setattr(EnsembleRelabeller, "ACTIVATIONS", 7 * E * K * 8)  # chunks of 7 rows, the last one smaller
    table, live = (relabeller(ensemble, threshold, rows, tmp_path, precompute) for precompute in (True, False))
    for stored, computed in zip(
        table(contexts_of(rows, index), index)[:2], live(contexts_of(rows, index), index)[:2], strict=True
    ):
        torch.testing.assert_close(stored, computed, rtol=0, atol=1e-14)


def test_next_states_rewards_and_ends_are_not_read(ensemble: MLP, rows: Rows, tmp_path: Path) -> None:
    index = torch.randint(N, (K, C))
    relabel = relabeller(ensemble, 1.0, rows, tmp_path, False)
    contexts = contexts_of(rows, index)
    other = contexts._replace(
        rewards=contexts.rewards + 1, next_observations=torch.zeros(K, C, S), terminations=torch.ones(K, C)
    )
    first, second = relabel(contexts, index), relabel(other, index)
    off_diagonal = ~torch.eye(K, dtype=torch.bool)
    assert torch.equal(first.rewards[off_diagonal], second.rewards[off_diagonal])
    assert torch.equal(first.kept, second.kept)


@pytest.mark.parametrize("precompute", [True, False])
def test_a_single_member_is_always_trusted(rows: Rows, tmp_path: Path, precompute: bool) -> None:
    index = torch.randint(N, (K, C))
    contexts = contexts_of(rows, index)
    kept = relabeller(reward_ensemble(1), 1e-9, rows, tmp_path, precompute)(contexts, index).kept
    assert torch.equal(kept, ~torch.eye(K, dtype=torch.bool).unsqueeze(-1).expand(K, K, C))


def cut(ensemble: MLP, members: int) -> MLP:
    """Its first so many networks."""
    few = MLP(ensemble.sizes, (members, K))
    for p, whole in zip(few.parameters(), ensemble.parameters(), strict=True):
        p.data = whole.data[:members].clone()
    return few


@pytest.mark.parametrize("precompute", [True, False], ids=["precomputed", "on the fly"])
def test_the_first_members_of_ensembles_relabel_as_if_there_were_no_others(
    ensemble: MLP, dynamics: MLP, rows: Rows, tmp_path: Path, precompute: bool
) -> None:
    """Thresholds are those that about half of the predictions of three members pass."""
    few = [cut(networks, 3) for networks in (ensemble, dynamics)]
    thresholds = [median_disagreement(networks, rows) for networks in few]
    index = torch.randint(N, (K, C))
    paths = [checkpoint(ensemble, "rewards", tmp_path), checkpoint(dynamics, "next_observations", tmp_path)]
    of_three = EnsembleRelabeller(paths[0], thresholds[0], paths[1], thresholds[1], precompute, members=3)
    of_three.prepare(rows, "UmazeGoalM")
    (tmp_path / "few").mkdir()
    expected = relabeller(few[0], thresholds[0], rows, tmp_path / "few", precompute, few[1], thresholds[1])
    contexts = contexts_of(rows, index)
    for mine, theirs in zip(of_three(contexts, index), expected(contexts, index), strict=True):
        assert torch.equal(mine, theirs)
    assert 0 < of_three(contexts, index).kept.sum() < K * (K - 1) * C, "both cases were tried"


@pytest.mark.parametrize("precompute", [True, False], ids=["precomputed", "on the fly"])
def test_one_member_alone_is_always_trusted(ensemble: MLP, rows: Rows, tmp_path: Path, precompute: bool) -> None:
    path, index = checkpoint(ensemble, "rewards", tmp_path), torch.randint(N, (K, C))
    relabel, contexts = EnsembleRelabeller(path, 1e-9, precompute=precompute, members=1), contexts_of(rows, index)
    relabel.prepare(rows, "UmazeGoalM")
    rewards, kept, _ = relabel(contexts, index)
    assert torch.equal(kept, ~torch.eye(K, dtype=torch.bool).unsqueeze(-1).expand(K, K, C))
    for i in range(K):
        for j in range(K):
            for c in range(C if i != j else 0):
                first = members_say(ensemble, i, contexts.observations[j, c], contexts.actions[j, c])[0]
                assert rewards[i, j, c].item() == pytest.approx(first)


@pytest.mark.parametrize("members", [0, E + 1])
def test_members_that_an_ensemble_has_not_are_refused(ensemble: MLP, rows: Rows, tmp_path: Path, members: int) -> None:
    path = checkpoint(ensemble, "rewards", tmp_path)
    with pytest.raises(CheckpointError, match=f"has {E} members, relabeller.members is {members}"):
        EnsembleRelabeller(path, 0.1, members=members).prepare(rows, "UmazeGoalM")


@pytest.mark.parametrize(("threshold", "fraction"), [(0.0, 0), (float("inf"), 1)])
def test_extreme_thresholds_keep_nothing_or_everything(
    ensemble: MLP, rows: Rows, tmp_path: Path, threshold: float, fraction: int
) -> None:
    index = torch.randint(N, (K, C))
    kept = relabeller(ensemble, threshold, rows, tmp_path, True)(contexts_of(rows, index), index).kept
    assert kept.sum().item() == fraction * K * (K - 1) * C


def test_ensemble_is_frozen_and_relabelling_has_no_gradient(ensemble: MLP, rows: Rows, tmp_path: Path) -> None:
    relabel, index = relabeller(ensemble, 1.0, rows, tmp_path, False), torch.randint(N, (K, C))
    contexts = contexts_of(rows, index)
    contexts.observations.requires_grad_()
    assert not relabel(contexts, index).rewards.requires_grad
    assert not any(p.requires_grad for p in relabel.ensemble.parameters())


def test_prediction_is_the_mean_and_the_unbiased_deviation_over_members(ensemble: MLP) -> None:
    s, a = torch.randn(K, C, S), torch.randn(K, C, A)
    mean, std = ensemble_prediction(ensemble, s, a)
    assert mean.shape == (K, C, 1) and std.shape == (K, C)
    for k in range(K):
        for c in range(C):
            said = members_say(ensemble, k, s[k, c], a[k, c])
            assert mean[k, c].item() == pytest.approx(statistics.mean(said))
            assert std[k, c].item() == pytest.approx(statistics.stdev(said))


def test_a_single_member_never_disagrees() -> None:
    _, std = ensemble_prediction(reward_ensemble(1), torch.randn(K, C, S), torch.randn(K, C, A))
    assert torch.equal(std, torch.zeros(K, C))


def test_the_diagonal_holds_true_rewards_and_is_not_kept() -> None:
    given = Relabelled(torch.randn(K, K, C), torch.ones(K, K, C, dtype=torch.bool), torch.randn(K, K, C, S))
    contexts = Transitions(*(torch.randn(K, C, *d) for d in ((S,), (A,), (), (S,), ())))
    relabelled = with_truth(given, contexts)
    for i in range(K):
        for j in range(K):
            for name in ("rewards", "next_observations"):
                source = getattr(contexts, name)[j] if i == j else getattr(given, name)[i, j]
                assert torch.equal(getattr(relabelled, name)[i, j], source)
            assert relabelled.kept[i, j].all() == (i != j)


def replay(name: str, tasks: np.ndarray, num_tasks: int, steps: int) -> list[dict[str, np.ndarray]]:
    """Trajectories of ``num_tasks`` copies with seeds and actions of their own, all under the given tasks."""
    env = envs.make_vec_env(name, tasks)
    s, _ = env.reset(seed=list(range(num_tasks)))
    draw, taken = np.random.default_rng(0), []
    for _ in range(steps):
        a = draw.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        next_s, r, *_ = env.step(a)
        taken.append({"s": s, "a": a, "next_s": next_s, "r": r, "outcomes": env.outcomes.copy()})
        s = next_s
    env.close()
    return taken


def stored(name: str, steps: list[dict[str, np.ndarray]]) -> Rows:
    """Trajectories as data modules hold them."""
    family = envs.distribution(name)
    rows = Rows.empty(
        len(steps[0]["r"]), len(steps), family.observation_dim, family.action_dim, family.unobserved_outcomes
    )
    for step in steps:
        s, a, next_s, r, outcomes = (torch.as_tensor(step[x]).float() for x in ("s", "a", "next_s", "r", "outcomes"))
        step = Transitions(s, a, r, next_s, torch.zeros_like(r)).map(lambda x: x.unsqueeze(1))
        rows.append(step, outcomes.unsqueeze(1) if family.unobserved_outcomes else None)
    return rows


def oracle_rewards(name: str, rows: Rows) -> Relabelled:
    oracle = OracleRelabeller()
    oracle.prepare(rows, name)
    return oracle(rows.unpack(rows.packed), torch.arange(rows.count).expand(len(rows.packed), -1))


REWARDS_DIFFER = [name for name, family in envs.DISTRIBUTIONS.items() if not isinstance(family, RandomPhysics)]


@pytest.mark.parametrize("name", REWARDS_DIFFER)
def test_oracle_gives_the_rewards_that_the_environment_would_have_given(name: str) -> None:
    """The same seeds and actions under every task i in turn: the rewards are those of c_{j->i}."""
    train = envs.distribution(name).tasks("train")[:K]
    replays = [replay(name, np.repeat(train[i : i + 1], K, 0), K, C) for i in range(K)]
    for steps in replays:
        assert all(np.array_equal(x["next_s"], y["next_s"]) for x, y in zip(steps, replays[0], strict=True))
    would = torch.from_numpy(np.stack([np.stack([x["r"] for x in steps], 1) for steps in replays])).float()
    rows = stored(name, replays[0])
    rows.packed[..., 2 * rows.observation_dim + rows.action_dim] = torch.stack([would[k, k] for k in range(K)])
    rewards, kept, _ = oracle_rewards(name, rows)
    torch.testing.assert_close(rewards.float(), would)
    assert torch.equal(kept, ~torch.eye(K, dtype=torch.bool).unsqueeze(-1).expand(K, K, C))


@pytest.mark.parametrize("name", REWARDS_DIFFER)
def test_oracle_gives_a_tasks_own_rows_the_rewards_they_had(name: str) -> None:
    """Each task is handed the rows of the next one, so that they are not on the diagonal, which nobody relabels."""
    rows = stored(name, replay(name, envs.distribution(name).tasks("train")[:K], K, C))
    rows.packed = rows.packed.roll(-1, 0)
    rewards, r = oracle_rewards(name, rows).rewards, rows.unpack(rows.packed).rewards
    for j in range(K):
        torch.testing.assert_close(rewards[(j + 1) % K, j].float(), r[j].float())


@pytest.mark.parametrize("name", [name for name in envs.DISTRIBUTIONS if name not in REWARDS_DIFFER])
def test_oracle_refuses_tasks_that_differ_in_their_physics(name: str) -> None:
    rows = stored(name, replay(name, envs.distribution(name).tasks("train")[:K], K, C))
    with pytest.raises(RelabellingError, match=f"{name}: its reward depends on more .*: use EnsembleRelabeller"):
        oracle_rewards(name, rows)


def test_oracle_refuses_stores_of_before_outcomes_were_kept() -> None:
    rows = stored("AntDir", replay("AntDir", envs.distribution("AntDir").tasks("train")[:K], K, C))
    rows.packed, rows.outcome_dim = rows.packed[..., : -rows.outcome_dim], 0
    with pytest.raises(RelabellingError, match=r"AntDir: .* collect it again"):
        oracle_rewards("AntDir", rows)
