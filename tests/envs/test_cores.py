"""Torch leaves the cores to the physics while policies act, and gets them back."""

import pytest
import torch

from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.envs import distribution
from mbml_lightning.envs.cores import cores_for_physics
from mbml_lightning.evaluation.adaptation import adapt
from mbml_lightning.seeds import EpisodeSeeds


class Watching:
    noise_dim = 2

    def act(self, observations, z, noise):
        assert torch.get_num_threads() == 1
        return noise.clamp(-1, 1)


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    assert torch.get_num_threads() == 2
    torch.set_num_threads(before)


def test_threads_come_back_after_an_error():
    with pytest.raises(KeyError), cores_for_physics():
        assert torch.get_num_threads() == 1
        raise KeyError


def test_collecting_and_evaluating_act_on_one_thread(tmp_path):
    data = OnlineDataModule(str(tmp_path / "data"), "PointGoal", interactions=5, capacity=5)
    data.setup("fit")
    data.collect(Watching(), 5)
    adapt(Watching(), None, distribution("PointGoal"), EpisodeSeeds(0, "test", range(2), range(1)), episodes=1)
