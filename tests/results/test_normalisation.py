"""Normalised scores: the ends of the scale, and that they belong to the very tasks that were evaluated."""

import numpy as np
import pytest

from mbml_lightning.envs import DISTRIBUTIONS
from mbml_lightning.results.normalisation import Reference, normalised, reference, table

BETWEEN = Reference(np.array([-10.0, 20.0]), np.array([90.0, 40.0]), "by hand")


def test_random_is_0_and_sac_is_100_task_by_task():
    np.testing.assert_allclose(normalised(BETWEEN.random, BETWEEN), 0)
    np.testing.assert_allclose(normalised(BETWEEN.sac, BETWEEN), 100)
    np.testing.assert_allclose(normalised(np.array([[15.0, 25.0], [-60.0, 60.0]]), BETWEEN), [[25, 25], [-50, 200]])


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_every_official_task_has_a_random_return(name):
    family, entry = DISTRIBUTIONS[name], table()[name]
    assert set(entry["random"]) == {"episodes", *family.splits}
    for split, tasks in family.splits.items():
        assert len(entry["random"][split]) == len(tasks) and np.isfinite(entry["random"][split]).all()


@pytest.mark.parametrize("name", ["AntDir", "AntGoal", "HalfCheetahVel", "HumanoidDirM", "UmazeGoalM", "WalkerParam"])
def test_the_paper_s_distributions_have_a_scale_on_which_sac_is_above_random(name):
    for split, tasks in DISTRIBUTIONS[name].splits.items():
        between = reference(name, split, tasks.tolist())
        assert between is not None and between.source and (between.sac > between.random).all()
        assert between.sac.shape == between.random.shape == (len(tasks),)


def test_references_are_of_the_tasks_that_were_evaluated(monkeypatch):
    family = DISTRIBUTIONS["PointGoal"]
    sac = {"train": [-5.0, -4.0, -3.0, -2.0, -1.0], "mean": -3.0, "source": "by hand"}
    random = {"train": [-20.0] * 5, "test": [-21.0, -22.0, -23.0, -24.0]}
    monkeypatch.setitem(table(), "PointGoal", {"random": random, "sac": sac})
    train, test = (family.tasks(split).tolist() for split in ("train", "test"))
    assert reference("PointGoal", "train", train[:2]).sac.tolist() == [-5, -4]
    unseen = reference("PointGoal", "test", test[:3])
    assert unseen.random.tolist() == [-21, -22, -23] and unseen.sac.tolist() == [-3, -3, -3]
    assert reference("PointGoal", "test", test[::-1]) is None
    assert reference("PointGoal", "ood", family.tasks("ood").tolist()) is None
    assert reference("AntDir+contact_forces=True", "test", []) is None
