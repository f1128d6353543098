"""Steps and updates of a collection, counted as a loop counts them."""

from hypothesis import given
from hypothesis import strategies as st

from mbml_lightning.data.budget import steps_of, updates_of

COUNTS = st.integers(1, 9)


@given(st.integers(0, 60), st.integers(0, 40), COUNTS, COUNTS)
def test_steps_of_updates_are_those_of_the_loop(updates, warmup, copies, updates_per_step):
    steps = 0
    while steps < warmup:
        steps += copies
    done = 0
    while done < updates:
        steps += copies
        done += updates_per_step
    assert steps_of(updates, warmup, copies, updates_per_step) == steps


@given(st.integers(0, 60), st.integers(0, 40), COUNTS, COUNTS)
def test_updates_of_steps_are_the_most_that_these_allow(steps, warmup, copies, updates_per_step):
    updates = updates_of(steps, warmup, copies, updates_per_step)
    if updates >= 0:
        assert steps_of(updates, warmup, copies, updates_per_step) <= steps
        assert steps_of(updates + 1, warmup, copies, updates_per_step) > steps
    else:
        assert steps_of(0, warmup, copies, updates_per_step) > steps


@given(st.integers(0, 60), st.integers(0, 40))
def test_one_copy_and_one_update_a_step_are_the_paper_s(updates, warmup):
    assert steps_of(updates, warmup) == warmup + updates
    assert updates_of(warmup + updates, warmup) == updates
