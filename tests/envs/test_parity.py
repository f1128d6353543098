"""The robots against Gymnasium's own environments: models, motion, velocities, observations, rewards, ends, forces."""

import functools
from types import SimpleNamespace

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from mbml_lightning.envs import distribution

COPIES, STEPS = 10, 100
ROBOTS = {
    "AntDir": "Ant-v5",
    "AntGoal": "Ant-v5",
    "AntDirFwd": "Ant-v5",
    "HalfCheetahVel": "HalfCheetah-v5",
    "HumanoidDirM": "Humanoid-v5",
    "HumanoidDir": "Humanoid-v5",
    "WalkerParam": "Walker2d-v5",
    "HopperParam": "Hopper-v5",
}
FALLING = ("AntDir", "HumanoidDirM", "HumanoidDir", "WalkerParam", "HopperParam")
CONTACT_FORCES = ("AntDir", "AntGoal", "HumanoidDirM")
FIELDS = ("qpos", "qvel", "xpos", "xipos", "cinert", "cvel", "qfrc_actuator")
NO_PHYSICS = ("_", "name", "site_", "sensor_", "cam_")


@functools.cache
def gymnasium_env(env_id):
    messages = []
    mujoco.set_mju_user_warning(messages.append)
    env = gym.make(env_id).unwrapped
    mujoco.set_mju_user_warning(None)
    assert all("'settotalmass' is deprecated" in message for message in messages)  # of the cheetah's XML
    return env


def gymnasium_model(name):
    return gymnasium_env(ROBOTS[name]).model


def start(name):
    """Ten copies at their starts, under the first official tasks, and actions for them."""
    family = distribution(name)
    simulation = family.simulation(family.tasks("train")[:COPIES], 1)
    simulation.reset(np.ones(COPIES, dtype=bool), [np.random.default_rng(i) for i in range(COPIES)])
    return simulation, np.random.default_rng(100).uniform(-1, 1, (STEPS, COPIES, family.action_dim))


@functools.cache
def ours(name):
    """What our simulation says of 1,000 transitions, which no end interrupts, as arrays (copies, steps, ...)."""
    family = distribution(name)
    simulation, actions = start(name)
    records = [{"state": simulation.batch.state.copy(), "observations": simulation.observe()}]
    for a in actions:
        simulation.step(a)
        observations = simulation.observe()
        outcomes = simulation.outcomes(observations)
        records.append(
            {
                "state": simulation.batch.state.copy(),
                "observations": observations,
                "outcomes": outcomes,
                "ended": simulation.terminated(observations),
                "rewards": family.reward(simulation.tasks, a, outcomes),
                **family.reward_terms(simulation.tasks, a, outcomes),
            }
        )
    fields = {key: np.stack([r[key] for r in records if key in r], axis=1) for key in records[-1]}
    return fields | {"tasks": simulation.tasks[:, None], "actions": actions.swapaxes(0, 1)}


def first_of_its_kind(name):
    """Families that differ in rewards alone share Gymnasium's side."""
    return next(family for family, env_id in ROBOTS.items() if env_id == ROBOTS[name])


@functools.cache
def theirs(name):
    """What Gymnasium's environment, given the same model, starts and actions, holds before and after each of them."""
    env = gymnasium_env(ROBOTS[name])
    own_model, own_data = env.model, env.data
    simulation, actions = start(name)
    reach = env.action_space.high.astype(np.float64).round(6)  # 1, or 0.4, in float64
    records = []
    for i in range(COPIES):
        if name in ("WalkerParam", "HopperParam"):
            env.model = simulation.batch.get_model(i)
            env.data = mujoco.MjData(env.model)
        mujoco.mj_resetData(env.model, env.data)
        env.set_state(simulation.qpos[i], simulation.qvel[i])
        records.append([snapshot(env)])
        for a in actions[:, i]:
            info = env.step(reach * a)[4]
            velocities = {"velocities": [info[axis] for axis in ("x_velocity", "y_velocity") if axis in info]}
            records[-1].append(snapshot(env) | velocities)
    env.model, env.data = own_model, own_data
    return SimpleNamespace(
        **{key: np.array([[r[key] for r in copy if key in r] for copy in records]) for key in records[-1][-1]}
    )


def snapshot(env):
    fields = {field: getattr(env.data, field).copy() for field in FIELDS}
    healthy = getattr(env, "is_healthy", True)
    mass = env.model.body_mass
    centre = (mass[:, None] * env.data.xipos).sum(axis=0)[:2] / mass.sum()
    return {"state": state(env.model, env.data), "healthy": healthy, "centre": centre, **fields}


@pytest.fixture(scope="module", params=ROBOTS)  # a fixture, so that tests of one robot run in a row
def robot(request):
    name = request.param
    return SimpleNamespace(name=name, ours=ours(name), theirs=theirs(first_of_its_kind(name)))


def state(model, data):
    """All that MuJoCo goes on from: time, positions, velocities, controls, warm start."""
    values = np.empty(mujoco.mj_stateSize(model, mujoco.mjtState.mjSTATE_INTEGRATION))
    mujoco.mj_getState(model, data, values, mujoco.mjtState.mjSTATE_INTEGRATION)
    return values


def squares(a):
    return np.square(a).sum(axis=-1)


def moved(places):
    return np.diff(places, axis=1)


def towards(angles, velocities):
    return (np.stack([np.cos(angles), np.sin(angles)], axis=-1) * velocities).sum(axis=-1)


def torso(d):
    return d.xpos[:, :, 1, :2]


def humanoid_terms(weight):
    return lambda g, a, d: {
        "reward_forward": weight * towards(g, moved(d.centre) / 0.003),  # over one physics step, as in the paper's code
        "reward_ctrl": -0.1 * squares(0.4 * a),
        "reward_survive": 5.0,
    }


def walking_terms(seconds):
    return lambda g, a, d: {
        "reward_forward": moved(d.qpos[:, :, 0]) / seconds,
        "reward_ctrl": -1e-3 * squares(a),
        "reward_survive": 1.0,
    }


# The paper's rewards of tasks g, actions a and Gymnasium's data d, written again.
TERMS = {
    "AntDir": lambda g, a, d: {
        "reward_forward": towards(g, moved(torso(d)) / 0.05),
        "reward_ctrl": -0.5 * squares(a),
        "reward_survive": 1.0,
    },
    "AntGoal": lambda g, a, d: {
        "reward_goal": -np.abs(torso(d)[:, 1:] - g).sum(axis=-1),
        "reward_ctrl": -0.1 * squares(a),
    },
    "AntDirFwd": lambda g, a, d: {"reward_forward": towards(g, moved(torso(d)) / 0.05)},
    "HalfCheetahVel": lambda g, a, d: {
        "reward_forward": -np.abs(moved(d.qpos[:, :, 0]) / 0.05 - g),
        "reward_ctrl": -0.05 * squares(a),
    },
    "HumanoidDirM": humanoid_terms(1.25),
    "HumanoidDir": humanoid_terms(0.25),
    "WalkerParam": walking_terms(0.016),
    "HopperParam": walking_terms(0.008),
}


def walking_observation(d):
    return d.qpos[..., 1:], d.qvel.clip(-10, 10)


def humanoid_observation(d):
    return d.qpos[..., 2:], d.qvel, *(getattr(d, field) for field in ("cinert", "cvel", "qfrc_actuator"))


OBSERVATIONS = {
    "AntDir": lambda d: (d.qpos[..., 2:], d.qvel),
    "AntGoal": lambda d: (d.qpos, d.qvel),
    "AntDirFwd": lambda d: (d.qpos[..., 2:], d.qvel),
    "HalfCheetahVel": lambda d: (d.qpos[..., 1:], d.qvel, d.xpos[:, :, 1]),
    "HumanoidDirM": humanoid_observation,
    "HumanoidDir": humanoid_observation,
    "WalkerParam": walking_observation,
    "HopperParam": walking_observation,
}
OBSERVATION_DIMS = dict(zip(ROBOTS, (27, 29, 27, 20, 292, 292, 17, 11), strict=True))


def physics(model):
    """All arrays of a model but those of names, sites, sensors and cameras; its options; scales of its solver."""
    options = {field: getattr(model.opt, field) for field in dir(model.opt) if not field.startswith("_")}
    arrays = {field: getattr(model, field) for field in dir(model) if not field.startswith(NO_PHYSICS)}
    arrays = {field: array for field, array in arrays.items() if isinstance(array, np.ndarray)}
    return arrays | options | {"meaninertia": model.stat.meaninertia}


@pytest.mark.parametrize(
    "name",
    ["AntDir", "AntDir+contact_forces=True", "HalfCheetahVel", "HumanoidDirM", "HumanoidDirM+contact_forces=True"],
)
def test_models_are_gymnasiums(name):
    family = distribution(name)
    ours = physics(family.simulation(family.tasks("test"), 1).batch.model)
    theirs = physics(gymnasium_model(family.family))
    assert ours.keys() == theirs.keys() >= {"timestep", "gravity", "body_mass", "dof_invweight0", "actuator_gear"}
    for field, expected in theirs.items():
        np.testing.assert_array_equal(ours[field], expected, err_msg=field)


def test_motion_is_gymnasiums_bit_for_bit(robot):
    np.testing.assert_array_equal(robot.ours["state"], robot.theirs.state)
    assert np.abs(moved(robot.theirs.qpos)).max() > 0.1


def test_velocities_and_places_are_what_gymnasium_reports(robot):
    expected = torso(robot.theirs)[:, 1:] if robot.name == "AntGoal" else robot.theirs.velocities
    np.testing.assert_allclose(robot.ours["outcomes"], expected, rtol=1e-10, atol=1e-12)


def test_rewards_are_the_papers_of_gymnasiums_data(robot):
    terms = TERMS[robot.name](robot.ours["tasks"], robot.ours["actions"], robot.theirs)
    assert {key for key in robot.ours if key.startswith("reward_")} == terms.keys()
    for key, expected in (*terms.items(), ("rewards", sum(terms.values()))):
        expected = np.broadcast_to(expected, (COPIES, STEPS))
        np.testing.assert_allclose(robot.ours[key], expected, rtol=1e-10, atol=1e-11, err_msg=key)


def test_observations_are_made_of_gymnasiums_data(robot):
    parts = [part.reshape(COPIES, STEPS + 1, -1) for part in OBSERVATIONS[robot.name](robot.theirs)]
    expected = np.concatenate(parts, axis=2).astype(np.float32)
    assert expected.shape[2] == OBSERVATION_DIMS[robot.name]
    np.testing.assert_array_equal(robot.ours["observations"], expected)


def test_episodes_end_where_gymnasiums_do_or_never(robot):
    healthy = robot.theirs.healthy[:, 1:]
    expected = ~healthy if robot.name in FALLING else np.zeros_like(healthy)
    np.testing.assert_array_equal(robot.ours["ended"], expected)
    assert healthy.any() and (robot.name == "HalfCheetahVel" or not healthy.all())


@pytest.mark.parametrize("name", FALLING)
def test_thousand_random_states_end_an_episode_where_they_end_gymnasiums(name):
    family, env, rng = distribution(name), gymnasium_env(ROBOTS[name]), np.random.default_rng(0)
    simulation = family.simulation(family.sample_tasks(1000, rng), 1)
    simulation.qpos[...] = rng.uniform(-2.5, 2.5, simulation.qpos.shape)
    simulation.qvel[...] = 30 * rng.standard_normal(simulation.qvel.shape)
    simulation.qpos[:500] *= 0.08  # upright
    simulation.qpos[:, 1 if name.endswith("Param") else 2] = rng.uniform(0, 2.5, 1000)
    simulation.qvel[::10, 3] = np.nan
    expected = []
    for qpos, qvel in zip(simulation.qpos, simulation.qvel, strict=True):
        env.data.qpos[:], env.data.qvel[:] = qpos, qvel
        expected.append(not env.is_healthy)
    np.testing.assert_array_equal(simulation.terminated(simulation.observe()), expected)
    assert 100 < sum(expected) < 900


@pytest.mark.parametrize(
    ("name", "coordinate", "low", "high", "ends_at_bounds"),
    [
        ("AntDir", 2, 0.2, 1.0, False),
        ("HumanoidDirM", 2, 1.0, 2.0, False),  # as in the paper's code; Gymnasium's ends there
        ("WalkerParam", 1, 0.8, 2.0, True),
        ("WalkerParam", 2, -1.0, 1.0, True),
        ("HopperParam", 1, 0.7, np.inf, True),
        ("HopperParam", 2, -0.2, 0.2, True),
        ("HopperParam", 3, -100.0, 100.0, True),
    ],
)
def test_bounds_of_an_episodes_end(name, coordinate, low, high, ends_at_bounds):
    heights = [low, np.nextafter(low, -np.inf), np.nextafter(low, np.inf)]
    heights += [high, np.nextafter(high, np.inf), np.nextafter(high, -np.inf)] if np.isfinite(high) else []
    simulation = distribution(name).simulation(distribution(name).tasks("train")[: len(heights)], 1)
    simulation.qpos[:] = gymnasium_env(ROBOTS[name]).init_qpos
    simulation.qpos[:, coordinate] = heights
    ended = simulation.terminated(simulation.observe())
    assert ended.tolist() == [ends_at_bounds, True, False] * (len(heights) // 3)


@functools.cache
def forces_by_hand(name):
    """External forces at the start and before each last physics step, on Gymnasium's model, which has no sensor."""
    model = gymnasium_model(name)
    data = mujoco.MjData(model)
    simulation, actions = start(name)
    forces = np.empty((COPIES, STEPS + 1, model.nbody, 6))

    def measure():
        mujoco.mj_forward(model, data)
        mujoco.mj_rnePostConstraint(model, data)
        return data.cfrc_ext

    for i in range(COPIES):
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = simulation.qpos[i], simulation.qvel[i]
        forces[i, 0] = measure()
        for t, a in enumerate(actions[:, i], start=1):
            data.ctrl[:] = model.actuator_ctrlrange[:, 1] * a
            mujoco.mj_step(model, data, nstep=4)
            forces[i, t] = measure()
            mujoco.mj_step(model, data)
        np.testing.assert_array_equal(state(model, data), theirs(name).state[i, -1])
    return forces


@pytest.mark.parametrize("name", CONTACT_FORCES)
def test_contact_forces_are_observed_and_paid_for_and_change_nothing_else(name):
    plain, felt = ours(name), ours(f"{name}+contact_forces=True")
    np.testing.assert_array_equal(felt["state"], plain["state"])
    forces = forces_by_hand(first_of_its_kind(name)).reshape(COPIES, STEPS + 1, 84)
    touching = np.abs(forces).max(axis=2) > 1
    assert touching.any() and not touching.all()
    if name == "HumanoidDirM":
        cost = np.minimum(5e-7 * squares(forces), 10.0)[:, 1:]
    else:
        forces = forces.clip(-1, 1)
        cost = 5e-4 * squares(forces)[:, 1:]
    observations = np.concatenate([plain["observations"], forces], axis=2, dtype=np.float32)
    np.testing.assert_array_equal(felt["observations"], observations)
    assert felt.keys() == plain.keys() | {"reward_contact"}
    np.testing.assert_allclose(felt["reward_contact"], -cost, rtol=1e-10)
    np.testing.assert_allclose(felt["rewards"], plain["rewards"] - cost, rtol=1e-10, atol=1e-11)


def test_the_humanoids_impact_costs_at_most_ten():
    family = distribution("HumanoidDirM+contact_forces=True")
    simulation = family.simulation(family.tasks("train")[:2], 1)
    simulation.step(np.zeros((2, 17)))
    simulation.derived["cfrc_ext"] = np.stack([np.full((14, 6), 400.0), np.full((14, 6), -500.0)])
    outcomes = simulation.outcomes(simulation.observe())
    terms = family.reward_terms(simulation.tasks, np.zeros((2, 17)), outcomes)
    np.testing.assert_allclose(terms["reward_contact"], [-5e-7 * 84 * 400**2, -10.0], rtol=1e-12)
