"""Packed rows: columns come back as they went in, batches are drawn uniformly and say where they come from."""

import numpy as np
import pytest
import torch

from mbml_lightning.data.rows import Rows, Window, pack
from mbml_lightning.types import Transitions

K, N, S, A = 3, 7, 4, 2


def fields(seed: int, dtype: type = np.float32) -> dict[str, np.ndarray]:
    """Of one task, in another order than that of the rows, and one field more."""
    draw = np.random.default_rng(seed)
    return {
        "truncations": draw.random(N) < 0.5,
        "terminations": draw.random(N) < 0.5,
        "rewards": draw.normal(size=N).astype(dtype),
        "next_observations": draw.normal(size=(N, S)).astype(dtype),
        "actions": draw.normal(size=(N, A)).astype(dtype),
        "observations": draw.normal(size=(N, S)).astype(dtype),
    }


def stored() -> tuple[list[dict[str, np.ndarray]], Rows]:
    tasks = [fields(k) for k in range(K)]
    return tasks, Rows(pack(tasks), S, A, N)


def test_pack_and_unpack_are_inverse() -> None:
    tasks, rows = stored()
    t = rows.unpack(rows.packed)
    for name in Transitions._fields:
        expected = np.stack([task[name].astype(np.float32) for task in tasks])
        assert np.array_equal(getattr(t, name).numpy(), expected), name


def test_pack_gives_single_precision() -> None:
    assert pack([fields(0, np.float64)]).dtype == torch.float32


def test_columns_are_s_a_next_s_r_termination() -> None:
    rows = Rows.empty(1, 1, 2, 1)
    rows.append(
        Transitions(
            torch.tensor([[[1.0, 2.0]]]),
            torch.tensor([[[3.0]]]),
            torch.tensor([[6.0]]),
            torch.tensor([[[4.0, 5.0]]]),
            torch.tensor([[7.0]]),
        )
    )
    assert rows.packed.tolist() == [[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]]]


@pytest.mark.parametrize("m", [1, N])
def test_append_adds_the_next_transitions_of_every_task_in_order(m: int) -> None:
    _, expected = stored()
    rows = Rows.empty(K, N + 2, S, A)
    for t in range(0, N, m):
        rows.append(expected.unpack(expected.packed[:, t : t + m]))
        assert rows.count == t + m
        assert torch.equal(rows.states, expected.packed[:, : t + m, :S])
    assert torch.equal(rows.packed[:, :N], expected.packed)
    assert not rows.packed[:, N:].any()


def test_full_rows_take_no_more() -> None:
    _, rows = stored()
    with pytest.raises(RuntimeError, match="must match the existing size"):
        rows.append(rows.unpack(rows.packed[:, :2]))


def numbered(count: int, capacity: int) -> Rows:
    """The reward of row n of task k is 100 k + n."""
    rows = Rows.empty(K, capacity, S, A)
    rows.packed[..., 2 * S + A] = 100.0 * torch.arange(K).unsqueeze(-1) + torch.arange(capacity)
    rows.count = count
    return rows


def test_draw_gives_every_task_its_own_filled_rows_only() -> None:
    rewards = numbered(5, 9).draw(torch.Generator(), 200).transitions.rewards
    for k in range(K):
        assert set(rewards[k].tolist()) == {100.0 * k + n for n in range(5)}


def test_draw_without_context() -> None:
    batch = numbered(5, 9).draw(torch.Generator(), 11)
    assert batch.transitions.observations.shape == (K, 11, S)
    assert batch.contexts is None
    assert batch.context_index is None


def test_context_index_tells_which_rows_the_contexts_are() -> None:
    _, rows = stored()
    batch = rows.draw(torch.Generator(), 11, 6)
    assert batch.transitions.rewards.shape == (K, 11)
    assert batch.contexts.rewards.shape == batch.context_index.shape == (K, 6)
    for k in range(K):
        for c in range(6):
            expected = rows.unpack(rows.packed[k, batch.context_index[k, c]])
            for name, value in zip(Transitions._fields, expected, strict=True):
                assert torch.equal(getattr(batch.contexts, name)[k, c], value), name


def test_draws_are_uniform_and_tasks_and_contexts_independent() -> None:
    rows, draws = numbered(4, 4), 8000
    batch = rows.draw(torch.Generator().manual_seed(0), draws, draws)
    index = torch.cat([batch.transitions.rewards.long() % 100, batch.context_index])
    for drawn in index:
        assert ((drawn.bincount(minlength=4) - draws / 4) ** 2 / (draws / 4)).sum() < 16.3, "chi-squared, p = 0.001"
    for first in range(len(index)):
        for second in range(first):
            assert (index[first] == index[second]).float().mean().item() == pytest.approx(1 / 4, abs=0.03)


def test_draws_repeat_with_the_generator_and_not_otherwise() -> None:
    rows = numbered(50, 50)
    first, again, other = (rows.draw(torch.Generator().manual_seed(seed), 20, 5) for seed in (1, 1, 2))
    assert torch.equal(first.transitions.rewards, again.transitions.rewards)
    assert torch.equal(first.context_index, again.context_index)
    assert not torch.equal(first.transitions.rewards, other.transitions.rewards)


def test_a_window_holds_the_rows_of_a_context_and_lies_anywhere() -> None:
    rows, size, span = numbered(40, 50), 6, 5
    generator = torch.Generator().manual_seed(0)
    drawn = [rows.draw(generator, 3, 2 * size, None, Window(size, span)) for _ in range(400)]
    index = torch.stack([batch.context_index for batch in drawn]).unflatten(2, (2, size))  # (draws, K, contexts, size)
    low, high = index.min(-1).values, index.max(-1).values
    assert (high - low).max() == span - 1
    assert low.min() == 0 and high.max() == 39
    assert index.flatten().bincount(minlength=40)[span:-span].min() > 0.7 * index.numel() / 40
    starts = low.flatten(0, 1).float()
    assert abs(torch.corrcoef(starts.T)[0, 1]) < 0.1, "each context has a window of its own"
    rewards = torch.stack([batch.contexts.rewards for batch in drawn]).unflatten(2, (2, size))
    assert torch.equal(rewards, 100.0 * torch.arange(K)[:, None, None] + index)


def test_a_window_of_all_rows_is_none() -> None:
    rows = numbered(40, 50)
    batch = rows.draw(torch.Generator().manual_seed(0), 3, 4000, None, Window(4000, 1000))
    counts = batch.context_index.flatten().bincount(minlength=40)
    assert ((counts - 300.0) ** 2 / 300).sum() < 73, "chi-squared of 39, p = 0.001"


def test_without_a_window_nothing_else_is_drawn() -> None:
    rows = numbered(40, 50)
    plain = rows.draw(torch.Generator().manual_seed(3), 5, 4)
    windowed = rows.draw(torch.Generator().manual_seed(3), 5, 4, None, Window(4, 10))
    assert torch.equal(plain.transitions.rewards, windowed.transitions.rewards)
    assert not torch.equal(plain.context_index, windowed.context_index)
