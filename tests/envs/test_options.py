"""Options of task distributions: how they are named, what is refused, and what each of them does."""

import gymnasium as gym
import numpy as np
import pytest

from mbml_lightning.envs import DISTRIBUTIONS, distribution, make_vec_env


def first_step(name, copies=3):
    """Observations before and after one step from seeded starts, and its infos."""
    env = make_vec_env(name, distribution(name).tasks("test")[:copies])
    start, _ = env.reset(seed=0)
    actions = np.random.default_rng(0).uniform(-1, 1, (copies, distribution(name).action_dim))
    observations, rewards, _, _, infos = env.step(actions)
    np.testing.assert_allclose(rewards, sum(infos[term] for term in infos if not term.startswith("_")), rtol=1e-12)
    return start, observations, infos


@pytest.mark.parametrize(
    ("words", "options", "name"),
    [
        ("+contact_forces=True", {"contact_forces": True}, "AntDir+contact_forces=True"),
        ("+torso_position=False", {"torso_position": False}, "HalfCheetahVel+torso_position=False"),
        ("+velocity_per=dt", {"velocity_per": "dt"}, "HumanoidDirM+velocity_per=dt"),
        (
            "+frame_skip=5+base=compiled",
            {"base": "compiled", "frame_skip": 5},
            "WalkerParam+frame_skip=5+base=compiled",
        ),
        (
            "+base=compiled+frame_skip=5",
            {"frame_skip": 5, "base": "compiled"},
            "WalkerParam+frame_skip=5+base=compiled",
        ),
        ("+limit=3", {"limit": 3.0}, "HopperParam+limit=3.0"),
        # Defaults are not named.
        ("+contact_forces=False", {"contact_forces": False}, "AntGoal"),
        ("+velocity_per=timestep", {"velocity_per": "timestep"}, "HumanoidDirM"),
        ("+limit=2.0+left_foot_friction=0.9", {"left_foot_friction": 0.9}, "WalkerParam+left_foot_friction=0.9"),
    ],
)
def test_a_name_tells_the_options_that_are_not_defaults(words, options, name):
    plain = name.partition("+")[0]
    family = distribution(plain + words)
    assert (family.name, family.family) == (name, plain)
    assert family == distribution(name) == distribution(plain, **options)
    assert (family != DISTRIBUTIONS[plain]) == (name != plain)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("AntDir+forces=True", "^AntDir has no option 'forces': choose from contact_forces$"),
        ("PointGoal+frame_skip=5", "^PointGoal has no option 'frame_skip': choose from none$"),
        ("AntDir+contact_forces", "^AntDir: 'contact_forces' is no option, write it as option=value$"),
        ("AntDir+", "^AntDir: '' is no option, write it as option=value$"),
        ("AntDir+contact_forces=1", "^AntDir: contact_forces is 1, expected a value of type bool$"),
        ("AntDir+contact_forces=[]", r"^AntDir: contact_forces is \[\], expected a value of type bool$"),
        ("AntDir+contact_forces=yes", "^AntDir: contact_forces is 'yes', expected a value of type bool$"),
        ("WalkerParam+frame_skip=True", "^WalkerParam: frame_skip is True, expected a value of type int$"),
        ("WalkerParam+frame_skip=5.0", "^WalkerParam: frame_skip is 5.0, expected a value of type int$"),
        ("WalkerParam+frame_skip=0", "^WalkerParam: expected frame_skip >= 1"),
        ("WalkerParam+limit=3.0+limit=2.5", "^WalkerParam: option 'limit' is given twice$"),
        ("WalkerParam+left_foot_friction=-1", "^WalkerParam: expected 0 < left_foot_friction <= 10.0$"),
        ("WalkerParam+limit=0.0", "^WalkerParam: .*0 < limit <= 5.0$"),
        ("WalkerParam+limit=5.5", "^WalkerParam: .*0 < limit <= 5.0$"),
        ("HopperParam+base=mujoco200", "^HopperParam: base is 'mujoco200', expected mujoco131 or compiled$"),
        ("HumanoidDirM+velocity_per=second", "^HumanoidDirM: velocity_per is 'second', expected timestep or dt$"),
        ("HumanoidDirM+velocity_per=0.015", "^HumanoidDirM: velocity_per is 0.015, expected timestep or dt$"),
    ],
)
def test_bad_options_are_refused_in_one_line(name, message):
    with pytest.raises(ValueError, match=message) as error:
        distribution(name)
    assert "\n" not in str(error.value)


def test_arguments_and_options_in_the_name_go_together_and_are_checked_alike():
    assert distribution("WalkerParam+frame_skip=5", base="compiled").name == "WalkerParam+frame_skip=5+base=compiled"
    with pytest.raises(ValueError, match=r"^WalkerParam: frame_skip is '5', expected a value of type int$"):
        distribution("WalkerParam", frame_skip="5")


@pytest.mark.parametrize(
    ("less", "more", "dims"),
    [
        ("HalfCheetahVel+torso_position=False", "HalfCheetahVel", (17, 20)),
        ("AntDir", "AntDir+contact_forces=True", (27, 111)),
        ("AntGoal", "AntGoal+contact_forces=True", (29, 113)),
        ("HumanoidDirM", "HumanoidDirM+contact_forces=True", (292, 376)),
        ("HumanoidDir", "HumanoidDir+contact_forces=True", (292, 376)),
    ],
)
def test_what_is_observed_beside_comes_last(less, more, dims):
    for few, many in zip(first_step(less)[:2], first_step(more)[:2], strict=True):
        assert (few.shape[1], many.shape[1]) == dims
        np.testing.assert_array_equal(few, many[:, : dims[0]])
    assert (distribution(less).observation_dim, distribution(more).observation_dim) == dims


@pytest.mark.parametrize("name", ["HumanoidDirM", "HumanoidDir"])
def test_velocity_per_timestep_is_five_times_that_per_dt(name):
    _, s, per_timestep = first_step(name)
    _, s_per_dt, per_dt = first_step(f"{name}+velocity_per=dt")
    np.testing.assert_array_equal(s, s_per_dt)
    assert per_dt.keys() == per_timestep.keys() and np.abs(per_dt["reward_forward"]).min() > 1e-6
    for term in per_dt.keys() - {"reward_forward"}:
        np.testing.assert_array_equal(per_dt[term], per_timestep[term])
    np.testing.assert_allclose(per_timestep["reward_forward"], 5 * per_dt["reward_forward"], rtol=1e-14)


@pytest.mark.parametrize(
    ("name", "seconds"),
    [
        ("WalkerParam", 0.016),
        ("WalkerParam+frame_skip=5", 0.020),
        ("HopperParam", 0.008),
        ("HopperParam+frame_skip=5", 0.010),
    ],
)
def test_frame_skip_sets_the_time_of_a_step(name, seconds):
    family = distribution(name)
    simulation = family.simulation(family.tasks("test"), 1)
    simulation.reset(np.ones(8, dtype=bool), [np.random.default_rng(i) for i in range(8)])
    before = simulation.qpos[:, 0].copy()
    simulation.step(np.ones((8, family.action_dim)))
    np.testing.assert_allclose(simulation.batch.bind("time"), seconds, rtol=1e-12)
    velocity = (simulation.qpos[:, 0] - before) / seconds
    np.testing.assert_allclose(simulation.outcomes(simulation.observe())[:, 0], velocity, rtol=1e-12)


@pytest.mark.parametrize("name", ["WalkerParam", "HopperParam"])
def test_limit_widens_new_tasks_and_leaves_the_official_ones(name):
    narrow, wide = distribution(name), distribution(name, limit=3.0)
    tasks, wider = (family.sample_tasks(50, np.random.default_rng(0)) for family in (narrow, wide))
    assert 1.9 < np.abs(tasks).max() <= 2
    np.testing.assert_allclose(wider, 1.5 * tasks, atol=1e-12)
    np.testing.assert_array_equal(wide.tasks("test"), narrow.tasks("test"))


def test_left_foot_friction_is_of_that_foot_alone():
    usual, even = (distribution(name).model for name in ("WalkerParam", "WalkerParam+left_foot_friction=0.9"))
    assert (usual.geom("foot_left_geom").friction[0], even.geom("foot_left_geom").friction[0]) == (1.9, 0.9)
    even.geom("foot_left_geom").friction[0] = 1.9
    np.testing.assert_array_equal(even.geom_friction, usual.geom_friction)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("AntDir", {"contact_forces": True}),
        ("HalfCheetahVel", {"torso_position": False}),
        ("HumanoidDirM", {"velocity_per": "dt"}),
        ("WalkerParam", {"frame_skip": 5, "left_foot_friction": 0.9}),
    ],
)
def test_gymnasium_passes_options_on(name, options):
    family = distribution(name, **options)
    single = gym.make(family.env_id, **options)
    together = gym.make_vec(family.env_id, tasks="test", **options)
    assert single.unwrapped.distribution == together.distribution == family != DISTRIBUTIONS[name]
    assert single.observation_space == together.single_observation_space == family.observation_space
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=f"^{name} has no option 'gravity'"):
            make(family.env_id, gravity=3.7)
