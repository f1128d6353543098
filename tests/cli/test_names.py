"""Configuration files by their names, in the working folder and in the package."""

import shutil
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from commands import ROOT
from hatchling.builders.wheel import WheelBuilder

from mbml_lightning.cli.main import main
from mbml_lightning.cli.names import shipped, with_files
from mbml_lightning.errors import ConfigurationError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """In an empty folder."""
    monkeypatch.chdir(tmp_path)


def test_names_stand_for_the_package_s_files():
    words = ["fit", "-c", "mbml", "-c", "ablation/neither", "--task", "ant_dir", "--scale=laptop", "--trainer", "ddp"]
    conf = ROOT / "conf"
    files = ["fit", "-c", f"{conf}/mbml.yaml", "-c", f"{conf}/ablation/neither.yaml"]
    files += ["--task", f"{conf}/task/ant_dir.yaml", f"--scale={conf}/scale/laptop.yaml"]
    assert with_files(words) == [*files, "--trainer", f"{conf}/trainer/ddp.yaml"]


def test_paths_of_the_readme_work_from_an_empty_folder():
    words = ["-c", "conf/sac.yaml", "--task", "conf/task/ant_dir.yaml"]
    assert with_files(words) == ["-c", f"{ROOT}/conf/sac.yaml", "--task", f"{ROOT}/conf/task/ant_dir.yaml"]


def test_files_that_are_here_come_first():
    for path in ("task/mine.yaml", "task/ant_dir.yaml"):
        Path("conf", path).parent.mkdir(parents=True, exist_ok=True)
        Path("conf", path).touch()
    Path("ant_dir").touch()
    words = ["--task", "mine", "--task=conf/task/mine.yaml", "--task", "conf/task/ant_dir.yaml", "--task", "ant_dir"]
    expected = ["--task", "conf/task/mine.yaml", "--task=conf/task/mine.yaml", "--task", "conf/task/ant_dir.yaml"]
    assert with_files(words) == [*expected, "--task", "ant_dir"]


@pytest.mark.parametrize(
    "words",
    [
        ["--task", "{distribution: AntDir}"],
        ["--task.distribution=ant_dir"],
        ["--run", "mbml"],
        ["--task"],
        ["-c", "a.b"],
    ],
)
def test_what_is_no_name_stays(words):
    assert with_files(words) == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--task", "umaze"], "--task umaze: there is no such file, nor conf/task/umaze.yaml; choose among ant_dir, "),
        (
            ["--scale=conf/scale/lap.yaml"],
            "--scale conf/scale/lap.yaml: there is no such file, nor ",
        ),
        (
            ["-c", "mbm"],
            "-c mbm: there is no such file, nor conf/mbm.yaml; choose among bcq, best_",
        ),
    ],
)
def test_a_missing_name_is_refused_with_those_that_there_are(words, message):
    with pytest.raises(ConfigurationError) as error:
        with_files(words)
    assert str(error.value).startswith(message)


def test_a_command_takes_names(capsys):
    with pytest.raises(SystemExit):
        main(["fit", "-c", "mbml", "--task", "half_cheetah_vel", "--scale", "laptop", "--print_config=resolved"])
    config = yaml.safe_load(capsys.readouterr().out)
    assert config["model"]["init_args"]["distribution"] == "HalfCheetahVel+torso_position=False"
    assert config["experiment"] == "runs/HalfCheetahVel-laptop"


def test_init_copies_the_files_once(capsys):
    main(["init"])
    relative = {path.relative_to(shipped()) for path in shipped().rglob("*.yaml")}
    assert relative and {path.relative_to("conf") for path in Path("conf").rglob("*.yaml")} == relative
    assert with_files(["-c", "mbml"]) == ["-c", "conf/mbml.yaml"]
    Path("conf/mbml.yaml").write_text("mine")
    with pytest.raises(SystemExit, match="conf: exists already"):
        main(["init"])
    assert Path("conf/mbml.yaml").read_text() == "mine"


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out == f"mbml {version('mbml-lightning')}\n"


def test_the_wheel_carries_configuration_and_workflow(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "runs", "results", "benchmarks", "tests"))
    (wheel,) = WheelBuilder(str(source)).build(directory=str(tmp_path / "dist"), versions=["standard"])
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"mbml_lightning/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")} <= names
    assert {"mbml_lightning/workflow/Snakefile", "mbml_lightning/py.typed"} <= names
