"""The replay's file: what was kept comes back bit for bit, and nothing else passes for it."""

import pytest
import torch

from mbml_lightning.errors import StoreError
from mbml_lightning.files import replay as replay_file
from mbml_lightning.files.replay import ReplayFile

K, D = 3, 5


@pytest.fixture
def steps():
    return torch.randn(20, K, D, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def kept(tmp_path, steps):
    """Seven steps known to a checkpoint, and five that were written after it."""
    file = ReplayFile(tmp_path / "run" / "replay.f32")
    file.append(steps[:4])
    file.append(steps[4:7])
    known = (file.kept, file.digest, K, D)
    file.append(steps[7:12])
    return file.path, known


def read(path, known):
    return torch.cat(list(ReplayFile(path).read(*known)))


def test_appended_steps_are_read_bit_for_bit(kept, steps, monkeypatch):
    path, known = kept
    assert torch.equal(read(path, known), steps[:7])
    monkeypatch.setattr(replay_file, "CHUNK", 2 * K * D)  # chunks of two steps, the last one smaller
    assert torch.equal(read(path, known), steps[:7])


def test_what_a_killed_run_wrote_after_its_checkpoint_is_overwritten(kept, steps):
    path, known = kept
    again = ReplayFile(path)
    list(again.read(*known))
    again.append(steps[12:])
    assert torch.equal(read(path, (again.kept, again.digest, K, D)), torch.cat([steps[:7], steps[12:]]))
    assert torch.equal(read(path, known), steps[:7])


def test_a_new_run_begins_the_file_anew(kept, steps):
    path, known = kept
    ReplayFile(path).append(steps[12:14])
    assert path.stat().st_size == 2 * K * D * 4
    with pytest.raises(StoreError, match=r"replay\.f32: ends before step 7; .* collect anew"):
        read(path, known)


def test_a_flipped_bit_and_a_missing_file_are_refused(kept):
    path, known = kept
    content = bytearray(path.read_bytes())
    content[11] ^= 1
    path.write_bytes(content)
    with pytest.raises(StoreError, match="SHA-256 of its first 7 steps differs"):
        read(path, known)
    path.unlink()
    with pytest.raises(StoreError, match=r"replay\.f32: cannot be read \(No such file"):
        read(path, known)


def test_a_failed_write_changes_nothing_that_was_kept(kept, steps, monkeypatch):
    path, known = kept
    again = ReplayFile(path)
    list(again.read(*known))

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(replay_file.os, "fsync", full)
    with pytest.raises(
        StoreError, match=r"replay\.f32: cannot be written \(No space left on device\); free disk space"
    ):
        again.append(steps[12:])
    assert (again.kept, again.digest) == known[:2]
    assert torch.equal(read(path, known), steps[:7])
