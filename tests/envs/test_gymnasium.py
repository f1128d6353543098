"""The environments as Gymnasium knows them: registration, its own checker, its two ways of making them."""

import os
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from mbml_lightning.envs import DISTRIBUTIONS, TaskEnv, TaskVectorEnv, distribution, make_vec_env

each_family = pytest.mark.parametrize("name", DISTRIBUTIONS)
unbounded_states = pytest.mark.filterwarnings("ignore:.*A Box observation space (minimum|maximum) value is:UserWarning")

RENDER = """
import warnings
import gymnasium as gym, mbml_lightning.envs
from gymnasium.utils.env_checker import check_env
warnings.filterwarnings("error")
warnings.filterwarnings("ignore", ".*A Box observation space (minimum|maximum) value is", UserWarning)
check_env(gym.make("mbml/UmazeGoalM-v0", render_mode="rgb_array").unwrapped)

def pictures(name, tasks):
    envs = gym.make_vec(f"mbml/{name}-v0", tasks=tasks, render_mode="rgb_array")
    envs.reset(seed=[0] * len(tasks))
    before = envs.get_state()
    for picture in envs.render():
        assert picture.shape == (480, 480, 3) and picture.dtype == "uint8"
        yield picture.astype(int).transpose(2, 0, 1)
    assert all((array == before[field]).all() for field, array in envs.get_state().items())
    envs.close()

for goal_left, (red, green, blue) in zip((True, False), pictures("UmazeGoalM", [[0.8, 1.5], [2.8, 1.5]])):
    y, x = ((green > red + 60) & (green > blue + 60)).nonzero()  # the goal, in the left or the right arm
    assert len(x) and (x.mean() < 240) == goal_left and y.mean() > 200, (x.mean(), y.mean())
    y, x = ((blue > red + 60) & (blue > green + 60)).nonzero()  # the particle, above and between
    assert len(x) and 180 < x.mean() < 300 and y.mean() < 200, (x.mean(), y.mean())

for far_left, (red, green, blue) in zip((True, False), pictures("AntGoal", [[-1.0, 0.8], [1.0, -0.8]])):
    y, x = ((green > red + 60) & (green > blue + 60)).nonzero()  # the camera looks along y, down on the ant
    assert len(x) > 100 and (x.max() < 200 and y.max() < 240 if far_left else x.min() > 280 and y.min() > 240)
"""


@each_family
@unbounded_states
def test_gymnasiums_checker_is_content(name):
    env = gym.make(distribution(name).env_id)
    # MuJoCo's pictures need OpenGL, which this process may lack: see test_mujocos_pictures_and_checker.
    check_env(env.unwrapped, skip_render_check=name != "PointGoal")


@pytest.mark.parametrize("backend", ["egl", "osmesa"])
def test_mujocos_pictures_and_checker(backend):
    probe = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'))"
    environment = {**os.environ, "MUJOCO_GL": backend, "PYTHONPATH": str(Path(__file__).parents[2])}
    if subprocess.run([sys.executable, "-c", probe], env=environment, capture_output=True).returncode:
        pytest.skip(f"this machine has no OpenGL by MUJOCO_GL={backend}")
    done = subprocess.run([sys.executable, "-c", RENDER], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["AntDir", "AntDirFwd", "HumanoidDirM", "HumanoidDir"])
def test_directions_are_marked_ahead_of_the_robot(name):
    directions = np.array([0.3, 2.0])
    simulation = distribution(name).simulation(directions, 1)
    for robot, direction in enumerate(directions):
        data = mujoco.MjData(simulation.batch.model)
        data.qpos[:3] = 5.0, -3.0, 1.0
        mujoco.mj_forward(simulation.batch.model, data)
        simulation.mark_task(data, robot)
        x, y, _ = data.site("task").xpos - data.body("torso").xpos
        assert np.arctan2(y, x) == pytest.approx(direction) and 0.5 < np.hypot(x, y) < 3


def test_missing_opengl_is_said_with_its_remedy(monkeypatch):
    def no_context(*args, **kwargs):
        raise mujoco.FatalError("gladLoadGL error")

    monkeypatch.setattr(mujoco, "Renderer", no_context)
    env = TaskEnv("UmazeGoalM", render_mode="rgb_array")
    env.reset(seed=0)
    with pytest.raises(RuntimeError, match=r"MUJOCO_GL=egl .* MUJOCO_GL=osmesa .*gladLoadGL error"):
        env.render()
    env.close()


def test_point_picture_shows_point_and_goal():
    env = TaskEnv("PointGoal", task=[0.0, 1.0], render_mode="rgb_array")
    env.reset(seed=0)
    picture = env.render()
    rows, columns = np.nonzero(np.any(picture != picture[0, 0], axis=2))
    assert picture.dtype == np.uint8 and abs(columns.mean() - 128) < 3  # one above the other, in the middle
    assert abs(rows.min() - 128 * (1 - 1.1 / 2)) < 3 and rows.max() < 128 * (1 + 0.15 / 2) + 3
    assert TaskEnv("PointGoal").render() is None and make_vec_env("PointGoal").render() is None


@each_family
def test_single_environment(name):
    family = distribution(name)
    env = gym.make(family.env_id)
    np.testing.assert_array_equal(env.unwrapped.task, family.tasks("train")[0])
    env.reset(seed=0)
    _, reward, _, _, info = env.step(np.full(family.action_dim, 0.5, dtype=np.float32))
    assert all(isinstance(term, float) and term != 0 for term in info.values()) and sum(info.values()) == reward
    with pytest.raises(ValueError, match=rf"^{name}: task 0 (is|has values from) .*50.*, expected "):
        gym.make(family.env_id, task=np.full(family.task_shape, 50.0).tolist())
    with pytest.raises(ValueError, match=rf"^{name}: tasks have shape \(1, 1, 3\), expected"):
        gym.make(family.env_id, task=[[1.0, 2.0, 3.0]])
    with pytest.raises(ValueError, match=f"^{name}: tasks are not an array of numbers"):
        gym.make(family.env_id, task=[[1.0], [1.0, 2.0]])


@each_family
def test_spec_travels_as_json_and_makes_the_same_task(name):
    task = distribution(name).tasks("test")[2].tolist()
    spec = gym.make(distribution(name).env_id, task=task).spec
    again = gym.make(EnvSpec.from_json(spec.to_json()))
    assert again.unwrapped.task.tolist() == task and again.spec.max_episode_steps == distribution(name).horizon


def test_options_pass_through_and_travel_with_the_spec():
    single = gym.make("mbml/AntDir-v0", contact_forces=True)
    again = gym.make(EnvSpec.from_json(single.spec.to_json()))
    batch = gym.make_vec("mbml/AntDir-v0", num_envs=20, contact_forces=True)
    for env in (single.unwrapped, again.unwrapped, batch.unwrapped):
        assert env.distribution == distribution("AntDir", contact_forces=True) != distribution("AntDir")
    assert single.reset(seed=0)[0].shape == again.reset(seed=0)[0].shape == (111,)
    assert batch.reset(seed=0)[0].shape == (20, 111)
    with pytest.raises(ValueError, match=r"^AntDir has no option 'contact_force': choose from contact_forces$"):
        gym.make("mbml/AntDir-v0", contact_force=True)


@each_family
def test_make_vec(name):
    family = distribution(name)
    env = gym.make_vec(family.env_id, tasks="test")
    assert isinstance(env, TaskVectorEnv) and env.spec.id == family.env_id
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    np.testing.assert_array_equal(env.tasks, family.tasks("test"))
    np.testing.assert_array_equal(gym.make_vec(family.env_id).tasks, family.tasks("train"))
    tasks = family.sample_tasks(2, np.random.default_rng(0))
    env = gym.make_vec(family.env_id, num_envs=6, tasks=tasks, autoreset_mode="Disabled", num_threads=2)
    np.testing.assert_array_equal(env.tasks.reshape(2, 3, *family.task_shape), np.stack([tasks] * 3, axis=1))
    assert env.autoreset_mode is AutoresetMode.DISABLED
    with pytest.raises(ValueError, match="num_envs is 5, expected a multiple of the 2 tasks"):
        gym.make_vec(family.env_id, num_envs=5, tasks=tasks)
    with pytest.raises(ValueError, match=f"{name} has no task set 'tests'"):
        gym.make_vec(family.env_id, tasks="tests")
    loop = gym.make_vec(family.env_id, num_envs=2, vectorization_mode="sync", task=tasks[1].tolist())
    assert isinstance(loop, SyncVectorEnv)
