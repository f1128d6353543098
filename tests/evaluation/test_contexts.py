"""Context protocols: who collects, what the posterior is inferred from, and who acts first."""

import math
import sys
from itertools import pairwise

import numpy as np
import pytest
import torch
from references import infer, separate

from mbml_lightning import envs
from mbml_lightning.envs import distribution
from mbml_lightning.errors import CheckpointError, ConfigurationError
from mbml_lightning.evaluation import contexts
from mbml_lightning.evaluation.adaptation import PRIOR, Start, adapt
from mbml_lightning.evaluation.contexts import (
    PAPER,
    PROTOCOLS,
    ContextProtocol,
    actors,
    find_protocol,
    needed_actors,
    other_members,
    read_collectors,
)
from mbml_lightning.evaluation.rollouts import Episode
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.nets.mlp import MLP
from mbml_lightning.nets.standardiser import Standardiser
from mbml_lightning.nets.task_encoder import TaskEncoder
from mbml_lightning.seeds import EpisodeSeeds

POINT = distribution("PointGoal")


class Walker:
    """A policy that walks towards z and remembers what it was given."""

    noise_dim = 2

    def __init__(self, pace=1.0):
        self.pace, self.seen = pace, []

    def act(self, observations, z, noise):
        self.seen.append(z)
        return torch.tanh(self.pace * (z[..., :2] - observations) + 0.3 * noise)


@pytest.fixture
def encoder():
    torch.manual_seed(0)
    encoder = TaskEncoder(2, 2, 3, [8])
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.normal_(0, 0.5)
    return encoder


def constant_action(member):
    return torch.tensor([0.1 + 0.1 * member, 0.3 - 0.2 * member])


@pytest.fixture
def stack():
    """Five actors without hidden layers, each of which always acts in its own way."""
    stack = MLP([2, 4], members=[5])
    with torch.no_grad():
        stack.weights[0].zero_()
        for member in range(5):
            stack.biases[0][member] = torch.cat([torch.atanh(constant_action(member)), torch.full((2,), -20.0)])
    return stack


@pytest.fixture
def learners():
    """Five actors that look at the state and act by samples."""
    torch.manual_seed(1)
    stack = MLP([2, 6, 4], members=[5])
    with torch.no_grad():
        for parameter in stack.parameters():
            parameter.normal_(0, 0.7)
    return stack


@torch.no_grad()
def posterior(encoder, rows):
    """The posterior of rows (s, a, r, s')."""
    return infer(separate(encoder.mlp), [(s, a, next_s, r) for s, a, r, next_s in rows], 3)


def rows_of(episodes, k, b):
    for episode in episodes:
        for t in range(episode.alive.shape[-1]):
            if episode.alive[k, b, t]:
                yield tuple(x[k, b, t] for x in episode.transitions[:4])


def seeds(split, tasks, trials):
    return EpisodeSeeds(7, split, tasks, trials)


def begun(name, seeds, stack):
    return find_protocol(name).begin(POINT, seeds, {"train": stack, "test": stack}, episodes=2)


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_own_context_is_of_this_task_and_acted_by_its_own_member(stack, learners, split):
    stacks = {name: stack if name == split else learners for name in ("train", "test")}
    start = find_protocol("offline-own").begin(POINT, seeds(split, range(1, 3), range(2)), stacks, episodes=2)
    assert_context(start, POINT.tasks(split)[1:3], [[1, 1], [2, 2]])


def test_the_other_context_has_this_task_s_rewards_and_another_member_s_actions(stack):
    trials = seeds("train", range(3, 5), range(2))
    assert_context(begun("offline-other", trials, stack), POINT.tasks("train")[3:5], [[4, 0], [0, 1]])
    trials = seeds("test", range(3, 4), range(3))
    assert_context(begun("offline-other", trials, stack), POINT.tasks("test")[3:4], [[3, 4, 0]])


def assert_context(start, goals, members):
    assert start.first is None and len(start.context) == 2
    first, second = (episode.transitions for episode in start.context)
    assert not torch.equal(first.observations, second.observations), "each episode begins anew"
    for t in (first, second):
        for k, row in enumerate(members):
            for b, member in enumerate(row):
                action = constant_action(member).expand(20, 2)
                torch.testing.assert_close(t.actions[k, b], action, atol=1e-6, rtol=1e-5)
                for step in range(20):
                    distance = math.dist(t.next_observations[k, b, step].tolist(), goals[k])
                    assert t.rewards[k, b, step].item() == pytest.approx(-distance, abs=1e-5)


def test_contexts_begin_elsewhere_than_the_trial_s_episodes(encoder, stack):
    trials = seeds("test", range(2), range(1))
    start = begun("offline-own", trials, stack)
    paths = adapt(Walker(), encoder, POINT, trials, 3, start=start).observations
    for k in range(2):
        begins = [*paths[k, :, 0], *(context.transitions.observations[k, 0, 0].numpy() for context in start.context)]
        assert len(np.unique(begins, axis=0)) == 5


def test_every_other_actor_collects_in_turn_and_never_the_own_one():
    members = other_members(seeds("train", range(5), range(8)), 5)
    for task in range(5):
        assert sorted(members[task].tolist()) == sorted(2 * [other for other in range(5) if other != task])
    assert other_members(seeds("train", range(2, 3), range(3, 4)), 5).tolist() == [[members[2, 3]]]
    unseen = other_members(seeds("test", range(4), range(5)), 5)
    assert all(sorted(row) == list(range(5)) for row in unseen.tolist())


def test_a_given_context_alone_is_the_posterior_of_every_episode(encoder, learners):
    trials = seeds("test", range(2), range(2))
    start = begun("offline-own", trials, learners)
    alive = torch.arange(20) < torch.tensor([[20, 3], [7, 12]]).unsqueeze(-1)  # as if some had ended early
    start = Start(context=[start.context[0], Episode(start.context[1].transitions, alive)])
    policy = Walker()
    adapt(policy, encoder, POINT, trials, 3, start=start)
    for e in range(3):
        noise = trials.normal("z", e, 3)
        for k in range(2):
            for b in range(2):
                mean, variance = posterior(encoder, rows_of(start.context, k, b))
                expected = mean + variance.sqrt() * noise[k, b]
                for z in policy.seen[20 * e : 20 * e + 20]:
                    torch.testing.assert_close(z[k, b], expected, atol=1e-4, rtol=1e-4)


def test_the_random_first_episode_is_nobody_s_and_counts_as_evidence(encoder, stack):
    trials = seeds("test", range(2), range(1))
    slow, fast = Walker(0.2), Walker(5.0)
    paths = [
        adapt(p, encoder, POINT, trials, 3, start=begun("random-first", trials, stack)).observations
        for p in (slow, fast)
    ]
    np.testing.assert_array_equal(paths[0][:, 0], paths[1][:, 0])
    assert (np.abs(paths[0][:, 1] - paths[1][:, 1]).max((-2, -1)) > 0.1).all()
    assert len(fast.seen) == 40, "the policy acts from the second episode on"
    noise = trials.normal("z", 1, 3)
    for k, goal in enumerate(POINT.tasks("test")[:2]):
        s = torch.from_numpy(paths[1][k, 0])
        rows = [(x, (y - x) / 0.1, torch.tensor(-math.dist(y, goal)), y) for x, y in pairwise(s)]
        actions = torch.stack([a for _, a, _, _ in rows])
        assert actions.abs().max() < 1 + 1e-5 and 0.4 < actions.std() < 0.75, "uniform in [-1, 1]: 0.58"
        mean, variance = posterior(encoder, rows)
        torch.testing.assert_close(fast.seen[0][k, 0], mean + variance.sqrt() * noise[k, 0], atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("name", [protocol.name for protocol in PROTOCOLS])
def test_scores_do_not_depend_on_who_else_is_evaluated_under_any_protocol(encoder, learners, name, split):
    def returns(trials):
        return adapt(Walker(), encoder, POINT, trials, 3, start=begun(name, trials, learners)).returns

    whole = returns(seeds(split, range(3), range(2)))
    for k in range(3):
        for b in range(2):
            alone = returns(seeds(split, range(k, k + 1), range(b, b + 1)))
            np.testing.assert_allclose(alone[0, 0], whole[k, b], atol=1e-3)


@pytest.mark.parametrize(
    ("names", "tasks", "expected"),
    [
        (["prior-online", "random-first"], {"train": 5}, {}),
        (["offline-own"], {"train": 5, "test": 4}, {"train": 5, "test": 4}),
        (["offline-other"], {"train": 5, "test": 4}, {"train": 5}),
        (["offline-other", "offline-own"], {"test": 4}, {"test": 4, "train": 2}),
        (["offline-other"], {"train": 1}, {"train": 2}),
        (["offline-other", "offline-own"], {"train": 1}, {"train": 2}),
        (["offline-other"], {}, {}),
    ],
)
def test_actors_are_needed_of_own_tasks_and_of_two_others_at_least(names, tasks, expected):
    assert needed_actors([find_protocol(name) for name in names], tasks) == expected


class Probing(ContextProtocol):
    """As a user writes one."""

    name = "probing"

    def begin(self, family, seeds, collectors, episodes):
        return Start(first=Walker())


def test_a_protocol_of_another_module_is_found_by_its_path(monkeypatch):
    module = type(contexts)("my_protocols")
    module.Probing = Probing
    monkeypatch.setitem(sys.modules, "my_protocols", module)
    found = find_protocol("my_protocols.Probing")
    assert isinstance(found, Probing) and found == Probing() == find_protocol(Probing())
    assert isinstance(begun(found, seeds("test", range(1), range(1)), None).first, Walker)


def test_the_paper_s_protocol_is_the_same_by_name_and_by_path():
    by_path = find_protocol("mbml_lightning.evaluation.contexts.PriorOnline")
    assert by_path == find_protocol("prior-online") == PAPER != find_protocol("random-first")
    assert PAPER.begin(POINT, seeds("test", range(1), range(1)), {}, 1) is PRIOR


@pytest.mark.parametrize(
    "choice", ["offline", "", "my_module.Mine", "os.path", "mbml_lightning.evaluation.contexts.MemberPolicy", ".Mine"]
)
def test_what_is_no_protocol_is_refused_with_those_there_are(choice):
    with pytest.raises(ConfigurationError, match="none of prior-online, offline-own, offline-other, random-first"):
        find_protocol(choice)


@pytest.mark.parametrize("name", ["offline-own", "../mine", "two words", ""])
def test_names_that_cannot_name_a_file_of_their_own_are_refused(name):
    with pytest.raises(ConfigurationError, match="is taken, or not of letters, digits and hyphens"):
        find_protocol(type("Mine", (Probing,), {"name": name})())


def test_every_protocol_has_a_name_and_a_sentence_of_its_own():
    assert len({protocol.name for protocol in PROTOCOLS}) == len(PROTOCOLS)
    assert len({protocol.sentence for protocol in PROTOCOLS}) == len(PROTOCOLS)


def checkpoint(path, stack, **changes):
    content = {"state_dict": {f"actor.mlp.{name}": x for name, x in stack.state_dict().items()}}
    Checkpoint.seal(content, {"method": "SAC", "distribution": "PointGoal", "split": "train"} | changes)
    torch.save(content, path)
    return str(path)


def test_collectors_are_the_actors_of_a_checkpoint(tmp_path, learners):
    paths = [checkpoint(tmp_path / "a.ckpt", learners), checkpoint(tmp_path / "b.ckpt", learners, split="test")]
    for path, split in zip(paths, ("train", "test"), strict=True):
        distribution = envs.distribution("PointGoal")
        read = read_collectors(path, split, distribution, distribution.tasks(split), 5)
        s = torch.randn(5, 3, 2)
        torch.testing.assert_close(actors(read)(s), learners(s))


def test_collectors_that_saw_standardised_states_take_them_as_they_are(tmp_path, learners):
    inputs, s = Standardiser(2, (5,)), 3 * torch.randn(5, 30, 2) + 7
    inputs.follow(s)
    content = {"state_dict": {f"actor.mlp.{name}": x for name, x in learners.state_dict().items()}}
    content["state_dict"] |= {f"inputs.{name}": x for name, x in inputs.state_dict().items()}
    Checkpoint.seal(content, {"method": "SAC", "distribution": "PointGoal", "split": "train"})
    torch.save(content, tmp_path / "sac.ckpt")
    expected = learners(inputs(s))
    torch.testing.assert_close(actors(Checkpoint.read(tmp_path / "sac.ckpt"))(s), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "tasks", "message"),
    [
        ({"split": "ood"}, 4, r"5 ood tasks, 4 test tasks are needed: .*-c conf/split/test\.yaml"),
        ({}, 4, r"5 train tasks, 4 test tasks are needed"),
        ({"split": "test"}, 6, r"5 test tasks, 6 test tasks are needed"),
        ({"split": "test", "method": "BCQ"}, 4, "method is BCQ, SAC is needed"),
        ({"split": "test", "distribution": "AntDir"}, 4, "distribution is AntDir, PointGoal is needed"),
    ],
)
def test_collectors_that_do_not_fit_are_refused(tmp_path, learners, changes, tasks, message):
    path = checkpoint(tmp_path / "sac.ckpt", learners, **changes)
    with pytest.raises(CheckpointError, match=rf"sac\.ckpt: .*{message}"):
        distribution = envs.distribution("PointGoal")
        read_collectors(path, "test", distribution, distribution.tasks("test")[:tasks], tasks)
