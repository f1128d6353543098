"""The authors' task sets: their numbers, the seeds they come from, and the physics that WalkerParam's stand for."""

import json
from importlib import resources

import mujoco
import numpy as np
import pytest
from numpy.random import RandomState

from mbml_lightning.envs import distribution

OFFICIAL = json.loads(resources.files("mbml_lightning.envs").joinpath("official_tasks.json").read_text("utf-8"))
WALKER = OFFICIAL["WalkerParam"]
FIELDS = {"body_mass": (8, 1), "body_inertia": (8, 3), "dof_damping": (9, 1), "geom_friction": (8, 3)}
BASES = {"body_mass": 1.5, "body_inertia": 1.5, "dof_damping": 1.3, "geom_friction": 1.5}
DERIVED = ("body_subtreemass", "body_invweight0", "dof_invweight0", "dof_M0", "actuator_acc0")
SPLITS = ("train", "test", "ood")
each_physics = pytest.mark.parametrize("name", ["WalkerParam", "HopperParam"])


def directions(rng):
    kept = OFFICIAL["AntDir"]["idx_list"]  # picked by hand of 32 draws on three quarters of the circle
    return (
        (rng.uniform(0, 1.5, 32) * np.pi)[kept],
        rng.uniform(0, 1, 8) * 2 * np.pi / 3,
        rng.uniform(2 / 3, 1, 8) * np.pi,
    )


def ant_goals(rng):
    def near(n):
        return rng.uniform(0, 1, n) * 2 * np.pi / 3

    def far(n):
        return rng.uniform(2 / 3, 1, n) * np.pi

    for n, draw in ((10, near), (8, near), (8, far)):
        angles, radii = draw(n), 3 * np.sqrt(rng.uniform(0, 1, n))
        yield np.stack([radii * np.cos(angles), radii * np.sin(angles)], axis=1)


def speeds(rng):
    kept = OFFICIAL["HalfCheetahVel"]["idx_list"]
    return rng.uniform(0, 1.5, 32)[kept], rng.uniform(0.5, 1.5, 8), rng.uniform(1.5, 2.5, 8)


def umaze_goals(rng):
    for _ in ("train", "test"):
        x = np.concatenate([rng.uniform(0.4, 1.2, 5), rng.uniform(2.4, 3.2, 5)])
        yield np.stack([x, rng.uniform(1.0, 2.0, 10)], axis=1)


def medium_goals(rng):
    for _ in ("train", "test"):
        rooms = [np.stack([rng.uniform(0.4, 2.2, 5), rng.uniform(*y, 5)], axis=1) for y in ((0.4, 2.2), (4.4, 6.2))]
        yield np.concatenate(rooms)


def exponents(rng, n, draw):
    return np.array([np.concatenate([draw(rng, shape).ravel() for shape in FIELDS.values()]) for _ in range(n)])


def walkers(_):
    def far(rng, shape):
        return rng.uniform(-3, -2, shape) if rng.uniform(0, 2) < 1 else rng.uniform(2, 3, shape)

    def near(rng, shape):
        return rng.uniform(-2, 2, shape)

    yield exponents(RandomState(1337), 30, near)
    yield exponents(RandomState(2337), 8, near)
    yield exponents(RandomState(2337), 8, far)


def flat(tasks):
    return [[e for field in FIELDS for row in task[field] for e in row] for task in tasks]


# The name in the authors' table, how its sets were drawn, one after another, and from which seed.
SOURCES = {
    "AntDir": ("AntDir", directions, 1337),
    "AntGoal": ("AntGoal", ant_goals, 1337),
    "HalfCheetahVel": ("HalfCheetahVel", speeds, 1337),
    "HumanoidDirM": ("HumanoidDir-M", directions, 1337),
    "HumanoidDir": ("HumanoidDir", directions, 1337),
    "UmazeGoalM": ("UmazeGoal-M", umaze_goals, 1336),
    "MazeMedium": ("MazeMedium", medium_goals, 1336),
    "WalkerParam": ("WalkerParam", walkers, None),
}
SIZES = dict.fromkeys(SOURCES, (10, 8, 8)) | {"UmazeGoalM": (10, 10), "MazeMedium": (10, 10), "WalkerParam": (30, 8, 8)}
each_official = pytest.mark.parametrize("name", SOURCES)


@each_official
def test_sets_are_those_of_the_table_to_the_last_digit(name):
    family, table = distribution(name), OFFICIAL[SOURCES[name][0]]
    if name == "WalkerParam":
        table = {split: flat(table[f"{split}_exponents"]) for split in SPLITS}
    assert dict(zip(SPLITS, SIZES[name], strict=False)) == {split: len(tasks) for split, tasks in family.splits.items()}
    for split in family.splits:
        assert family.tasks(split).tolist() == table[split]


@each_official
def test_sets_regenerate_from_their_seeds(name):
    family, (_, draw, seed) = distribution(name), SOURCES[name]
    drawn = dict(zip(SPLITS, draw(RandomState(seed)), strict=False))
    assert drawn.keys() == family.splits.keys()
    for split, tasks in drawn.items():
        # Exact, but the last digit of a sine is the platform's.
        np.testing.assert_allclose(family.tasks(split), tasks, rtol=0, atol=2e-15 * (name == "AntGoal"))


def compiled(name):
    """Gymnasium's robot as MuJoCo compiles it today."""
    asset, timestep = {"WalkerParam": ("walker2d.xml", 0.004), "HopperParam": ("hopper.xml", 0.002)}[name]
    model = mujoco.MjModel.from_xml_path(str(resources.files("gymnasium").joinpath(f"envs/mujoco/assets/{asset}")))
    model.opt.timestep = timestep
    return model


def assert_close(actual, expected, field):
    np.testing.assert_allclose(actual, np.reshape(expected, actual.shape), rtol=1e-12, err_msg=field)


def test_the_walkers_base_is_the_tables():
    model = distribution("WalkerParam").model
    assert [model.body(i).name for i in range(8)] == WALKER["order_bodies"]
    for field, values in WALKER["base_params_mujoco131"].items():
        assert_close(getattr(model, field), values, field)
    assert list(model.geom_friction[:, 0].round(12)) == [0.7, *[0.9] * 6, 1.9]


def test_the_hoppers_base_is_the_walkers_but_for_a_longer_foot():
    model, table = distribution("HopperParam").model, WALKER["base_params_mujoco131"]
    radius, height = 0.06, 0.39 + 0.06
    mass = 1000 * np.pi * radius**2 * height
    across = mass * (3 * radius**2 + height**2) / 12
    assert_close(model.body_mass, [*np.ravel(table["body_mass"])[:4], mass], "body_mass")
    foot = [across, across, mass * radius**2 / 2]
    assert_close(model.body_inertia, [*table["body_inertia"][:4], foot], "body_inertia")


@each_physics
def test_constants_are_derived_from_the_base(name):
    model, expected = distribution(name).model, compiled(name)
    for field in FIELDS:
        getattr(expected, field)[:] = getattr(model, field)
    mujoco.mj_setConst(expected, mujoco.MjData(expected))
    for field in DERIVED:
        assert_close(getattr(model, field), getattr(expected, field), field)
    assert (model.opt.timestep, model.stat.meaninertia) == (expected.opt.timestep, model.dof_M0.mean())
    assert model.opt.integrator == mujoco.mjtIntegrator.mjINT_RK4


@each_physics
def test_base_compiled_is_gymnasiums_robot(name):
    model, expected = distribution(name, base="compiled").model, compiled(name)
    for field in (*FIELDS, *DERIVED):
        np.testing.assert_array_equal(getattr(model, field), getattr(expected, field), err_msg=field)
    assert model.stat.meaninertia == expected.stat.meaninertia
    cylinders = distribution(name).model.body_mass
    assert (model.body_mass[1:] > cylinders[1:]).all()


@each_physics
@pytest.mark.parametrize("options", ["", "+base=compiled"])
def test_a_task_is_the_base_times_powers_and_changes_nothing_else(name, options):
    family = distribution(name + options)
    model = family.model
    tasks = np.concatenate(list(family.splits.values()))
    batch = family.simulation(tasks, 1).batch
    values = {field: getattr(model, field) for field in FIELDS}
    if name + options == "WalkerParam":
        values = {field: np.array(value) for field, value in WALKER["base_params_mujoco131"].items()}
    parts = np.split(tasks, np.cumsum([value.size for value in values.values()]), axis=1)
    assert parts.pop().size == 0
    for (field, value), e in zip(values.items(), parts, strict=True):
        assert_close(batch.expanded(field), BASES[field] ** e * value.ravel(), field)
    for copy in (0, len(tasks) - 1):
        own = batch.get_model(copy)
        for field in FIELDS:
            np.testing.assert_array_equal(getattr(own, field), batch.expanded(field)[copy], err_msg=field)
        for field in dir(own):
            if field not in FIELDS and isinstance(getattr(own, field), np.ndarray):
                np.testing.assert_array_equal(getattr(own, field), getattr(model, field), err_msg=field)
