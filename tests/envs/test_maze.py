"""The mazes: geometry, dynamics against MuJoCo stepped by hand and closed form, contact, reachability."""

import mujoco
import numpy as np
import pytest

from mbml_lightning.envs import DISTRIBUTIONS, TaskVectorEnv
from mbml_lightning.envs.maze import MAX_SPEED, maze_model

UMAZE, MEDIUM = DISTRIBUTIONS["UmazeGoalM"], DISTRIBUTIONS["MazeMedium"]
PICTURES = {  # row i is x, column j is y
    UMAZE: "##### #...# ###.# #...# #####",
    MEDIUM: "######## #..##..# #..#...# ##...### #..#...# #.#..#.# #...#..# ########",
}
STARTS = {UMAZE: (2.0, 3.0), MEDIUM: (6.0, 1.0)}
RADIUS, MASS = 0.1, 1000 * 4 / 3 * np.pi * 0.1**3
FORCE, DAMPING, DT = 100.0, 1.0, 0.01
each_maze = pytest.mark.parametrize("maze", PICTURES, ids=lambda maze: maze.name)


def wall_distance(points, maze):
    """Distance of each point to the nearest wall, 0 inside one."""
    x0, y0, x1, y1 = maze.walls.T
    px, py = points[..., 0, None], points[..., 1, None]
    return np.hypot(np.maximum(np.maximum(x0 - px, px - x1), 0), np.maximum(np.maximum(y0 - py, py - y1), 0)).min(-1)


def particle(position, velocity=(0.0, 0.0)):
    """A simulation without episodes, put where the test wants it."""
    simulation = UMAZE.simulation(UMAZE.tasks("train")[:1], 1)
    simulation.reset(np.ones(1, dtype=bool), [np.random.default_rng(0)])
    simulation.qpos[:], simulation.qvel[:] = position, velocity
    return simulation


def free_flight(position, velocity, action):
    """One step of semi-implicit Euler, damping implicit, as MuJoCo integrates it away from walls."""
    velocity = (np.clip(velocity, -5, 5) + DT * FORCE * action / MASS) / (1 + DT * DAMPING / MASS)
    return position + DT * velocity, velocity


@each_maze
def test_walls_are_the_picture(maze):
    expected = {
        (round(i - 0.7, 6), round(j - 0.7, 6), round(i + 0.3, 6), round(j + 0.3, 6))
        for i, row in enumerate(PICTURES[maze].split())
        for j, cell in enumerate(row)
        if cell == "#"
    }
    assert {tuple(np.round(box, 6)) for box in maze.walls} == expected and len(maze.walls) == len(expected)


@each_maze
def test_model_has_the_walls_where_walls_says(maze):
    model = maze_model(maze.layout)
    box = model.geom_type == mujoco.mjtGeom.mjGEOM_BOX
    centres, sizes = model.geom_pos[box, :2] - model.body("particle").pos[:2], model.geom_size[box, :2]
    np.testing.assert_allclose(np.concatenate([centres - sizes, centres + sizes], axis=1), maze.walls, atol=1e-12)


@each_maze
def test_a_goal_is_free_where_there_is_no_wall(maze):
    size = len(PICTURES[maze].split())
    points = np.random.default_rng(0).uniform(-0.7, size - 0.7, size=(2000, 2))
    np.testing.assert_array_equal(maze.contains(points), wall_distance(points, maze) > 0)
    assert not maze.contains(np.array([[0.0, 9.0]])).any()


@each_maze
def test_start_lies_in_a_free_cell(maze):
    env = TaskVectorEnv(maze, maze.sample_tasks(1000, np.random.default_rng(0)), 1)
    observations, _ = env.reset(seed=0)
    offset, velocity = observations[:, :2] - STARTS[maze], observations[:, 2:]
    assert np.abs(offset).max() <= 0.1 and (wall_distance(observations[:, :2], maze) > RADIUS).all()
    np.testing.assert_allclose(offset.std(axis=0), 0.2 / 12**0.5, rtol=0.05)
    np.testing.assert_allclose(velocity.std(axis=0), 0.1, rtol=0.1)
    assert abs(np.corrcoef(np.concatenate([offset, velocity], axis=1).T) - np.eye(4)).max() < 0.15


@each_maze
def test_free_cells_lead_from_the_start_to_every_official_goal(maze):
    rows = PICTURES[maze].split()

    def cell(point):
        return tuple(np.floor(np.asarray(point) + 0.7).astype(int).tolist())

    reached, frontier = set(), [cell(STARTS[maze])]
    while frontier:
        i, j = frontier.pop()
        if rows[i][j] != "#" and (i, j) not in reached:
            reached.add((i, j))
            frontier += [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
    goals = np.concatenate([maze.tasks("train"), maze.tasks("test")])
    assert len(goals) == 20 and {cell(goal) for goal in goals} <= reached


def test_reset_brings_derived_fields_up_to_date():
    simulation = UMAZE.simulation(UMAZE.tasks("train")[:2], 1)
    bodies = simulation.batch.bind("xpos")
    mask, rngs = np.array([False, True]), [np.random.default_rng(i) for i in range(2)]
    for _ in range(2):
        simulation.reset(mask, rngs)
        np.testing.assert_allclose(bodies[1, -1, :2], simulation.qpos[1] + 1.2, rtol=1e-12)


@each_maze
def test_physics_is_mujoco_stepped_by_hand(maze):
    model = maze_model(maze.layout)
    env = TaskVectorEnv(maze, maze.tasks("test")[:3], 2, autoreset_mode="Disabled")
    env.reset(seed=0)
    start = env.get_state()["physics"]
    state = np.empty(start.shape[1])
    actions = np.repeat(np.random.default_rng(1).uniform(-1, 1, size=(20, 3, 2)), 15, axis=0)
    observations = np.stack([env.step(a)[0] for a in actions])
    contacts = 0
    for i in range(3):
        rng = np.random.Generator(np.random.PCG64(i))
        data = mujoco.MjData(model)
        data.qpos[:] = np.array(STARTS[maze]) + rng.uniform(-0.1, 0.1, 2)
        data.qvel[:] = 0.1 * rng.standard_normal(2)
        mujoco.mj_forward(model, data)
        mujoco.mj_getState(model, data, state, mujoco.mjtState.mjSTATE_INTEGRATION)
        np.testing.assert_array_equal(start[i], state)
        for t, a in enumerate(actions[:, i]):
            data.qvel[:] = np.clip(data.qvel, -5, 5)
            data.ctrl[:] = a
            mujoco.mj_step(model, data)
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
    assert wall_distance(np.array(path), UMAZE).min() > 0.5 * RADIUS  # contacts are soft, but it stays in the maze
    for coordinate, expected in zip(path[-1], rest, strict=True):
        assert expected is None or abs(coordinate - expected) < 0.02


def test_every_official_goal_can_be_reached_around_the_walls():
    goals = np.concatenate([UMAZE.tasks("train"), UMAZE.tasks("test")])
    env = TaskVectorEnv(UMAZE, goals, 1, autoreset_mode="Disabled")
    observations, _ = env.reset(seed=0)
    in_arm = np.zeros(20, dtype=bool)
    path, total = [observations[:, :2]], np.zeros(20)
    for _ in range(UMAZE.horizon):
        in_arm |= np.abs(observations[:, 0] - goals[:, 0]) < 0.1
        corner = np.stack([goals[:, 0], np.full(20, 2.8)], axis=1)
        target = np.where(in_arm[:, None], goals, corner)
        actions = 3 * (target - observations[:, :2]) - 0.9 * observations[:, 2:]
        observations, rewards, *_ = env.step(actions)
        path.append(observations[:, :2])
        total += rewards
    assert np.linalg.norm(observations[:, :2] - goals, axis=1).max() < 0.02
    assert wall_distance(np.array(path), UMAZE).min() > 0.9 * RADIUS
    assert (total > 190).all()  # the paper's experts earn about 250 of 300


def test_two_goals_differ_in_reward_alone():
    goals = UMAZE.tasks("train")[[0, 9]]
    env = TaskVectorEnv(UMAZE, goals, 1)
    observations, _ = env.reset(seed=[4, 4])
    assert np.array_equal(*observations)
    observations, rewards, *_ = env.step(np.array([[-1.0, 0.0], [-1.0, 0.0]]))
    assert np.array_equal(*observations) and rewards[0] != rewards[1]
