"""UmazeGoal-M: geometry, dynamics against MuJoCo stepped by hand and closed form, contact, reachability."""

import itertools

import mujoco
import numpy as np
import pytest

from mbml_lightning.envs import DISTRIBUTIONS, TaskVectorEnv
from mbml_lightning.envs.maze import MAX_SPEED, maze_model

MAZE = DISTRIBUTIONS["UmazeGoalM"]
RADIUS, MASS = 0.1, 1000 * 4 / 3 * np.pi * 0.1**3
FORCE, DAMPING, DT = 100.0, 1.0, 0.01


def wall_distance(points):
    """Distance of each point to the nearest wall, 0 inside one."""
    x0, y0, x1, y1 = MAZE.walls.T
    px, py = points[..., 0, None], points[..., 1, None]
    return np.hypot(np.maximum(np.maximum(x0 - px, px - x1), 0), np.maximum(np.maximum(y0 - py, py - y1), 0)).min(-1)


def particle(position, velocity=(0.0, 0.0)):
    """A simulation without episodes, put where the test wants it."""
    simulation = MAZE.simulation(MAZE.tasks("train")[:1], 1)
    simulation.reset(np.ones(1, dtype=bool), [np.random.default_rng(0)])
    simulation.qpos[:], simulation.qvel[:] = position, velocity
    return simulation


def free_flight(position, velocity, action):
    """One step of semi-implicit Euler, damping implicit, as MuJoCo integrates it away from walls."""
    velocity = (np.clip(velocity, -5, 5) + DT * FORCE * action / MASS) / (1 + DT * DAMPING / MASS)
    return position + DT * velocity, velocity


def test_walls_are_the_picture():
    picture = [  # row i is x, column j is y
        "#####",
        "#...#",
        "###.#",
        "#...#",
        "#####",
    ]
    expected = {
        (round(i - 0.7, 6), round(j - 0.7, 6), round(i + 0.3, 6), round(j + 0.3, 6))
        for i, j in itertools.product(range(5), repeat=2)
        if picture[i][j] == "#"
    }
    assert {tuple(np.round(box, 6)) for box in MAZE.walls} == expected and len(MAZE.walls) == 18


def test_model_has_the_walls_where_walls_says():
    model = maze_model()
    box = model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
    centres, sizes = model.geom_pos[box, :2] - model.body("particle").pos[:2], model.geom_size[box, :2]
    np.testing.assert_allclose(np.concatenate([centres - sizes, centres + sizes], axis=1), MAZE.walls, atol=1e-12)


def test_a_goal_is_free_where_there_is_no_wall():
    points = np.random.default_rng(0).uniform(-0.7, 4.3, size=(2000, 2))
    np.testing.assert_array_equal(MAZE.contains(points), wall_distance(points) > 0)
    assert not MAZE.contains(np.array([[0.0, 9.0]])).any()


def test_start_lies_in_the_connecting_cell():
    env = TaskVectorEnv(MAZE, MAZE.sample_tasks(1000, np.random.default_rng(0)), 1)
    observations, _ = env.reset(seed=0)
    offset, velocity = observations[:, :2] - (2.0, 3.0), observations[:, 2:]
    assert np.abs(offset).max() <= 0.1 and (wall_distance(observations[:, :2]) > RADIUS).all()
    np.testing.assert_allclose(offset.std(axis=0), 0.2 / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(velocity.std(axis=0), 0.1, rtol=0.1)
    assert abs(np.corrcoef(np.concatenate([offset, velocity], axis=1).T) - np.eye(4)).max() < 0.15


def test_reset_brings_derived_fields_up_to_date():
    simulation = MAZE.simulation(MAZE.tasks("train")[:2], 1)
    bodies = simulation.batch.bind("xpos")
    mask, rngs = np.array([False, True]), [np.random.default_rng(i) for i in range(2)]
    for _ in range(2):
        simulation.reset(mask, rngs)
        np.testing.assert_allclose(bodies[1, -1, :2], simulation.qpos[1] + 1.2, rtol=1e-12)


def test_physics_is_mujoco_stepped_by_hand():
    env = TaskVectorEnv(MAZE, MAZE.tasks("test")[:3], 2, autoreset_mode="Disabled")
    env.reset(seed=0)
    start = env.get_state()["physics"]
    state = np.empty(start.shape[1])
    actions = np.repeat(np.random.default_rng(1).uniform(-1, 1, size=(20, 3, 2)), 15, axis=0)
    observations = np.stack([env.step(a)[0] for a in actions])
    contacts = 0
    for i in range(3):
        rng = np.random.Generator(np.random.PCG64(i))
        data = mujoco.MjData(maze_model())
        data.qpos[:] = np.array([2.0, 3.0]) + rng.uniform(-0.1, 0.1, 2)
        data.qvel[:] = 0.1 * rng.standard_normal(2)
        mujoco.mj_forward(maze_model(), data)
        mujoco.mj_getState(maze_model(), data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        np.testing.assert_array_equal(start[i], state)
        for t, a in enumerate(actions[:, i]):
            data.qvel[:] = np.clip(data.qvel, -5, 5)
            data.ctrl[:] = a
            mujoco.mj_step(maze_model(), data)
            contacts += data.ncon
            np.testing.assert_array_equal(observations[t, i], np.r_[data.qpos, data.qvel].astype(np.float32))
    assert contacts > 0 and np.abs(observations[..., 2:]).max() > MAX_SPEED


@pytest.mark.parametrize("action", [(1.0, 0.0), (0.0, 1.0), (-0.3, 0.7)])
def test_free_flight_has_a_closed_form(action):
    simulation = particle((1.8, 2.8))
    position, velocity, action = np.array([1.8, 2.8]), np.zeros(2), np.array(action)
    for _ in range(10):
        simulation.step(action[None])
        position, velocity = free_flight(position, velocity, action)
        np.testing.assert_allclose(simulation.observe()[0], [*position, *velocity], rtol=1e-5)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_speed_is_cut_before_the_step(sign):
    simulation = particle((1.8, 2.8), (sign * 50.0, sign * 4.0))
    simulation.step(np.full((1, 2), sign))
    x, y, vx, vy = simulation.observe()[0]
    position, velocity = free_flight(np.array([1.8, 2.8]), sign * np.array([5.0, 4.0]), sign)
    np.testing.assert_allclose([x, y, vx, vy], [*position, *velocity], rtol=1e-5)
    assert abs(vx) > MAX_SPEED > abs(vy)


@pytest.mark.parametrize(
    ("action", "rest"),
    [((0, 1), (None, 3.2)), ((0, -1), (None, 2.4)), ((1, 0), (3.2, None)), ((-1, 0), (0.4, None))],
)
def test_walls_stop_the_particle(action, rest):
    simulation = particle((1.8, 2.8))
    path = []
    for _ in range(300):
        simulation.step(np.array([action], dtype=np.float64))
        path.append(simulation.observe()[0, :2])
    assert wall_distance(np.array(path)).min() > 0.5 * RADIUS  # contacts are soft, but it stays in the maze
    for coordinate, expected in zip(path[-1], rest, strict=True):
        assert expected is None or abs(coordinate - expected) < 0.02


def test_every_official_goal_can_be_reached_around_the_walls():
    goals = np.concatenate([MAZE.tasks("train"), MAZE.tasks("test")])
    env = TaskVectorEnv(MAZE, goals, 1, autoreset_mode="Disabled")
    observations, _ = env.reset(seed=0)
    in_arm = np.zeros(20, dtype=bool)
    path, total = [observations[:, :2]], np.zeros(20)
    for _ in range(MAZE.horizon):
        in_arm |= np.abs(observations[:, 0] - goals[:, 0]) < 0.1
        corner = np.stack([goals[:, 0], np.full(20, 2.8)], axis=1)
        target = np.where(in_arm[:, None], goals, corner)
        actions = 3 * (target - observations[:, :2]) - 0.9 * observations[:, 2:]
        observations, rewards, *_ = env.step(actions)
        path.append(observations[:, :2])
        total += rewards
    assert np.linalg.norm(observations[:, :2] - goals, axis=1).max() < 0.02
    assert wall_distance(np.array(path)).min() > 0.9 * RADIUS
    assert (total > 190).all()  # the paper's experts earn about 250 of 300


def test_two_goals_differ_in_reward_alone():
    goals = MAZE.tasks("train")[[0, 9]]
    env = TaskVectorEnv(MAZE, goals, 1)
    observations, _ = env.reset(seed=[4, 4])
    assert np.array_equal(*observations)
    observations, rewards, *_ = env.step(np.array([[-1.0, 0.0], [-1.0, 0.0]]))
    assert np.array_equal(*observations) and rewards[0] != rewards[1]
