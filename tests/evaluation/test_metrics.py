"""Scores as torchmetrics: the numbers of the loops, the same in batches, on two ranks, cloned and pickled."""

import copy
import functools
import itertools
import multiprocessing
import pickle

import numpy as np
import pytest
import torch
import torch.distributed as dist
from processes import free_port
from scipy.stats import trim_mean
from torchmetrics import Metric, MetricCollection

from mbml_lightning.evaluation.metrics import CountedReturn, RelabellingErrors, RewardReading
from mbml_lightning.evaluation.sensitivity import reward_sensitivity, rewards_followed
from mbml_lightning.types import Gaussian

E, K, N, Z, THRESHOLD = 4, 3, 6, 2, 0.9


def gaussian(*shape: int) -> Gaussian:
    return Gaussian(torch.randn(shape), torch.rand(shape) + 0.5)


def batches(name: str) -> tuple[tuple, list[tuple]]:
    """Inputs of a metric, whole and cut into three batches of different sizes."""
    torch.manual_seed(0)
    cuts = [slice(0, 1), slice(1, 4), slice(4, 6)]
    if name == "returns":
        returns = 100 * torch.randn(N, 3, 5, dtype=torch.float64)
        return (returns,), [(returns[cut],) for cut in cuts]
    if name == "reading":
        own, swapped = gaussian(K, N, Z), gaussian(K, K, N, Z)
        parts = [(Gaussian(*(x[:, cut] for x in own)), Gaussian(*(x[:, :, cut] for x in swapped))) for cut in cuts]
        return (own, swapped), parts
    rewards, truth = torch.randn(E, K, K, N), torch.randn(K, K, N)
    return (rewards, truth), [(rewards[..., cut], truth[..., cut]) for cut in cuts]


METRICS = {
    "returns": functools.partial(CountedReturn, 2),
    "reading": RewardReading,
    "errors": functools.partial(RelabellingErrors, THRESHOLD),
    "errors of all rows": RelabellingErrors,
}
every = pytest.mark.parametrize("name", METRICS)


def computed(metric: Metric, *updates: tuple) -> dict[str, list]:
    for update in updates:
        metric.update(*update)
    return {name: value.tolist() for name, value in metric.compute().items()}


# The numbers ----------------------------------------------------------------------------------------------------


def test_counted_returns_are_those_of_the_loops():
    (returns,), _ = batches("returns")
    found = computed(CountedReturn(uncounted=2), (returns,))
    tasks = []
    for task in range(N):
        counted = [float(returns[task, b, e]) for b in range(3) for e in range(5) if e >= 2]
        tasks.append(sum(counted) / len(counted))
    assert found["tasks"] == pytest.approx(tasks)
    assert found["mean"] == pytest.approx(sum(tasks) / N)
    inner = sorted(tasks)[1:-1]  # a quarter of six tasks is one and a half: scipy leaves out one at each end
    assert found["iqm"] == pytest.approx(sum(inner) / len(inner)) == pytest.approx(trim_mean(tasks, 0.25))
    assert found["iqm"] != pytest.approx(found["mean"])


def test_counted_returns_have_the_bits_of_plain_means():
    (returns,), parts = batches("returns")
    found = computed(CountedReturn(uncounted=2), *parts)
    assert found["mean"] == float(returns.numpy()[..., 2:].mean())
    assert found["tasks"] == returns.numpy()[..., 2:].mean((-2, -1)).tolist()


def test_some_episode_must_count():
    metric = CountedReturn(uncounted=5)
    metric.update(*batches("returns")[0])
    with pytest.raises(ValueError, match="uncounted is 5, but there are 5 episodes"):
        metric.compute()


def test_reward_reading_has_the_bits_of_its_measures():
    (own, swapped), parts = batches("reading")
    found = computed(RewardReading(), *parts)
    assert found["reward_sensitivity"] == reward_sensitivity(own, swapped).item()
    assert found["rewards_followed"] == rewards_followed(own, swapped).item() not in (0, 1)


def test_errors_are_those_of_the_loops():
    (rewards, truth), _ = batches("errors")
    all_rows, kept, single = [], [], []
    for (i, j), t in itertools.product(itertools.permutations(range(K), 2), range(N)):
        members = [float(rewards[e, i, j, t]) for e in range(E)]
        mean = sum(members) / E
        std = (sum((m - mean) ** 2 for m in members) / (E - 1)) ** 0.5
        all_rows.append(abs(mean - float(truth[i, j, t])))
        single.append(abs(members[0] - float(truth[i, j, t])))
        kept += [all_rows[-1]] * (std < THRESHOLD)
    expected = {
        "relabelling_error": sum(all_rows) / len(all_rows),
        "relabelling_error_single": sum(single) / len(single),
        "relabelling_error_kept": sum(kept) / len(kept),
        "kept_fraction": len(kept) / len(all_rows),
    }
    assert 0 < len(kept) < len(all_rows)
    assert computed(RelabellingErrors(THRESHOLD), (rewards, truth)) == pytest.approx(expected, rel=1e-5)
    assert computed(RelabellingErrors(), (rewards, truth)).keys() == {"relabelling_error", "relabelling_error_single"}
    assert computed(RelabellingErrors(THRESHOLD), (rewards[:1], truth)).keys() == expected.keys() - {
        "relabelling_error_kept",
        "kept_fraction",
    }


def test_where_nothing_is_kept_its_error_is_not_a_number():
    found = computed(RelabellingErrors(0.0), batches("errors")[0])
    assert found["kept_fraction"] == 0 and np.isnan(found["relabelling_error_kept"])


# What every torchmetric does ------------------------------------------------------------------------------------


@every
def test_batches_give_what_the_whole_gives_to_the_last_bit(name):
    whole, parts = batches(name)
    assert computed(METRICS[name](), *parts) == computed(METRICS[name](), whole)


@every
def test_forward_returns_the_score_of_the_batch_and_keeps_that_of_all(name):
    whole, parts = batches(name)
    metric = METRICS[name]()
    for part in parts:
        batch = {key: value.tolist() for key, value in metric(*part).items()}
        assert batch == computed(METRICS[name](), part)
    assert computed(metric) == computed(METRICS[name](), whole)


@every
def test_reset_forgets_all_batches(name):
    _, parts = batches(name)
    metric = METRICS[name]()
    computed(metric, *parts[:2])
    metric.reset()
    assert computed(metric, parts[2]) == computed(METRICS[name](), parts[2])


def pickled(metric):
    return pickle.loads(pickle.dumps(metric))  # noqa: S301


@every
@pytest.mark.parametrize("duplicate", [Metric.clone, copy.deepcopy, pickled])
def test_a_copy_goes_on_by_itself(name, duplicate):
    whole, parts = batches(name)
    metric = METRICS[name]()
    first = computed(metric, parts[0])
    assert computed(duplicate(metric), *parts[1:]) == computed(METRICS[name](), whole) != first
    metric._computed = None
    assert computed(metric) == first


@every
def test_states_are_no_part_of_a_checkpoint(name):
    metric = METRICS[name]()
    metric.update(*batches(name)[0])
    assert not metric.state_dict() and not list(metric.parameters())


def test_returns_stay_in_double_precision():
    (returns,), _ = batches("returns")
    metric = CountedReturn(uncounted=2).float()
    assert computed(metric, (returns,)) == computed(METRICS["returns"](), (returns,))


def test_they_stand_in_a_collection():
    collection = MetricCollection({"some": CountedReturn(uncounted=1), "all": CountedReturn()})
    collection.update(*batches("returns")[0])
    assert {"some_mean", "all_mean"} <= collection.compute().keys()
    assert collection.compute()["some_mean"] != collection.compute()["all_mean"]


# Ranks ----------------------------------------------------------------------------------------------------------


def on_two_ranks(name: str, sync: bool) -> list[dict]:
    """What each of two forked ranks computes, the first of which has two batches and the second one."""
    fork, port = multiprocessing.get_context("fork"), free_port()
    pipes = [fork.Pipe(duplex=False) for _ in range(2)]

    def one(rank):
        dist.init_process_group("gloo", f"tcp://localhost:{port}", rank=rank, world_size=2)
        _, parts = batches(name)
        metric = METRICS[name](sync_on_compute=sync)
        pipes[rank][1].send(computed(metric, *(parts[2:] if rank else parts[:2])))
        dist.barrier()  # rank 0 keeps the store that rank 1 needs
        dist.destroy_process_group()

    processes = [fork.Process(target=one, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(30)
    assert [process.exitcode for process in processes] == [0, 0]
    return [receive.recv() for receive, _ in pipes]


@every
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_two_ranks_compute_what_one_does(name):
    expected = computed(METRICS[name](), batches(name)[0])
    assert on_two_ranks(name, sync=True) == [expected, expected]


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork.*:DeprecationWarning")
def test_ranks_that_do_not_synchronise_compute_what_they_have():
    """As the callbacks ask for, on results that every rank has."""
    _, parts = batches("returns")
    expected = [computed(METRICS["returns"](), *mine) for mine in (parts[:2], parts[2:])]
    assert on_two_ranks("returns", sync=False) == expected
