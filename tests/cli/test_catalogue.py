"""The table and the page of environments say what the environments do."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from mbml_lightning.cli import catalogue
from mbml_lightning.cli.main import main
from mbml_lightning.envs import distribution
from mbml_lightning.envs.registry import every_distribution
from mbml_lightning.splits import SPLITS

PAGE = Path(__file__).parents[2] / "docs/environments.md"
IDS = [env_id for env_id, spec in gym.registry.items() if spec.namespace == "mbml"]


@pytest.fixture(scope="module")
def listed():
    return {family.env_id: catalogue.cells(family, " ") for family in every_distribution().values()}


def test_every_registered_id_is_listed(listed):
    assert IDS and list(listed) == IDS


@pytest.mark.parametrize("env_id", IDS)
def test_a_row_is_what_the_environment_shows(listed, env_id):
    row, env = dict(zip(catalogue.HEADER, listed[env_id], strict=True)), gym.make(env_id).unwrapped
    state, _ = env.reset(seed=1)
    action = env.action_space.sample()
    _, reward, *_, info = env.step(action)
    assert (row["obs"], row["act"]) == (str(len(state)), str(len(action)))
    assert row["reward"].split() == list(info) and np.isclose(sum(info.values()), reward)
    sizes = dict(zip(SPLITS, row["tasks"].split("/"), strict=True))
    assert {split for split, size in sizes.items() if size != "-"} == set(env.distribution.splits)
    assert all(str(len(env.distribution.tasks(split))) == size for split, size in sizes.items() if size != "-")
    assert (row["steps"], row["Hz"]) == (str(env.distribution.horizon), str(env.metadata["render_fps"]))


def test_the_defaults_listed_are_those_that_make_takes(listed):
    for name, family in every_distribution().items():
        options = "+".join([name, *listed[family.env_id][0].split()[1:]])
        assert distribution(options) == family


def test_the_page_is_what_the_code_writes_today_and_its_pictures_are_there():
    text = PAGE.read_text(encoding="utf-8")
    assert text == catalogue.page(), "run MUJOCO_GL=egl mbml envs --page docs/environments.md"
    pictures = sorted(path.name for path in (PAGE.parent / "images").glob("*.png"))
    assert pictures == sorted(f"{name}.png" for name in every_distribution())
    assert all(f"images/{picture}" in text for picture in pictures)


def test_what_an_inherited_option_means_is_found():
    meaning = catalogue.option_meaning(type(distribution("HumanoidDir")), "contact_forces")
    assert meaning == "Observe 84 contact forces and pay for them; see AntDir."


def test_the_command_prints_every_id(capsys):
    main(["envs"])
    words = capsys.readouterr().out.split()
    assert [word for word in words if word.startswith("mbml/")] == IDS


def test_the_command_writes_page_and_pictures(tmp_path, monkeypatch):
    frame = catalogue.picture("PointGoal")
    assert len(np.unique(frame.reshape(-1, 3), axis=0)) == 3  # ground, point and goal
    monkeypatch.setattr(catalogue, "picture", lambda name: frame)  # the others need OpenGL
    main(["envs", "--page", str(tmp_path / "docs/page.md")])
    assert (tmp_path / "docs/page.md").read_text(encoding="utf-8") == catalogue.page()
    assert len(list((tmp_path / "docs/images").glob("*.png"))) == len(IDS)


def test_without_opengl_the_command_says_so_in_a_line(tmp_path, monkeypatch, capsys):
    def no_context(name):
        raise RuntimeError("start Python with MUJOCO_GL=egl")

    monkeypatch.setattr(catalogue, "picture", no_context)
    with pytest.raises(SystemExit) as stop:
        main(["envs", "--page", str(tmp_path / "page.md")])
    assert stop.value.code == 1
    assert capsys.readouterr().err == "mbml envs: error: start Python with MUJOCO_GL=egl\n"
