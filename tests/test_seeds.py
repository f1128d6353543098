"""Random numbers are told apart by every part of their names, and by nothing else."""

import hashlib
import itertools

import pytest
import torch

from mbml_lightning.seeds import EpisodeSeeds, seed_of


def test_a_seed_is_the_hash_of_its_name():
    for bits in (32, 56):
        digest = hashlib.blake2s(b"7/test/3/0/2/reset", digest_size=bits // 8).digest()
        assert seed_of(7, "test", 3, 0, 2, "reset", bits=bits) == int.from_bytes(digest, "big") < 2**bits


def test_episodes_have_the_numbers_of_their_names_task_by_task():
    """Evaluations that were saved by earlier versions can be repeated."""
    seeds = EpisodeSeeds(7, "test", range(1, 3), [0, 4])
    expected = []
    for task, trial in itertools.product((1, 2), (0, 4)):
        digest = hashlib.blake2s(f"7/test/{task}/{trial}/5/reset".encode(), digest_size=4).digest()
        expected.append(int.from_bytes(digest, "big"))
    assert seeds.resets("reset", 5) == expected
    drawn = seeds.normal("reset", 5, 3, 2)
    assert drawn.shape == (2, 2, 3, 2)
    for k, b in itertools.product(range(2), range(2)):
        generator = torch.Generator().manual_seed(expected[2 * k + b])
        assert torch.equal(drawn[k, b], torch.randn(3, 2, generator=generator))


def test_seeds_differ_in_everything_they_name():
    every = [
        EpisodeSeeds(seed, split, range(3), range(2)).resets(purpose, episode)
        for seed in (0, 1)
        for split in ("train", "test")
        for episode in (0, 1)
        for purpose in ("z", "action", "reset", "context-action", "context-reset")
    ]
    flat = [seed for seeds in every for seed in seeds]
    assert len(set(flat)) == len(flat) == 40 * 6


@pytest.mark.parametrize(("tasks", "trials"), [([2], [0, 1]), ([0, 1, 2], [1]), ([1], [1])])
def test_numbers_do_not_depend_on_who_else_acts(tasks, trials):
    whole = EpisodeSeeds(0, "train", range(3), range(2)).normal("action", 1, 4)
    some = EpisodeSeeds(0, "train", tasks, trials).normal("action", 1, 4)
    assert torch.equal(some, whole[tasks][:, trials])
