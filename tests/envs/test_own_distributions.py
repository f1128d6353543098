"""Task distributions that live in a user's own module are used like ours, without a line changed in the package."""

import importlib
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from commands import command

from mbml_lightning import envs
from mbml_lightning.cli.main import main
from mbml_lightning.envs import registry
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.files.configuration import saved_configuration
from mbml_lightning.files.evaluation import Evaluation

MODULE = '''
"""A point on a line, written against what the package exports."""

from dataclasses import dataclass

import numpy as np

from mbml_lightning.envs import Simulation, TaskDistribution


class LineSimulation(Simulation):
    def __init__(self, tasks, speed):
        super().__init__(tasks)
        self.x, self.speed = np.zeros((len(tasks), 1)), speed

    def reset(self, mask, generators):
        for copy in np.flatnonzero(mask):
            self.x[copy] = generators[copy].uniform(-0.1, 0.1)

    def step(self, actions):
        self.x += self.speed * actions

    def observe(self):
        return self.x.astype(np.float32)

    def outcomes(self, next_observations):
        return next_observations.astype(np.float64)

    def get_state(self):
        return {"x": self.x.copy()}

    def set_state(self, state):
        self.x[...] = state["x"]

    def render(self, copy):
        return np.zeros((8, 8, 3), np.uint8)


@dataclass(frozen=True)
class Line(TaskDistribution):
    """Go to the task's place on a line."""

    speed: float = 0.1

    family = "Line"
    horizon = 20
    observation_dim = 1
    action_dim = 1
    task_shape = ()
    task_meaning = "a place on the line within 2 of the origin"
    frames_per_second = 10

    @property
    def splits(self):
        return {"train": np.array([-1.0, -0.5, 0.5, 1.0]), "test": np.array([-0.7, 0.7])}

    def sample_tasks(self, n, rng):
        return rng.uniform(-1.0, 1.0, n)

    def contains(self, tasks):
        return np.abs(tasks) <= 2

    def reward_terms(self, tasks, actions, outcomes):
        return {"reward_goal": -np.abs(outcomes[..., 0] - tasks)}

    def observed_outcomes(self, observations, next_observations):
        return next_observations.astype(np.float64)

    def simulation(self, tasks, num_threads):
        return LineSimulation(tasks, self.speed)


class Undone(TaskDistribution):
    family = "Undone"


@dataclass(frozen=True)
class NoDefault(Line):
    slope: float = None
    family = "NoDefault"

    def __init__(self, slope):
        pass


class Unnamed(Line):
    family = "a line"


class Clashing(Line):
    family = "AntDir"


def function():
    pass
'''


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of a user's module outside the package; what it registers is forgotten afterwards."""
    (tmp_path / "own_module.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    distributions, ids = dict(envs.DISTRIBUTIONS), dict(gym.registry)
    yield "own_module"
    for known, before in ((envs.DISTRIBUTIONS, distributions), (gym.registry, ids)):
        known.clear()
        known.update(before)
    sys.modules.pop("own_module", None)
    registry._installed.cache_clear()


def install(folder: Path, *lines: str) -> None:
    """Leave on the path what an installed package would: its metadata with entry points."""
    info = folder / "own_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: own-package\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("\n".join(["[mbml_lightning.distributions]", *lines]), encoding="utf-8")
    importlib.invalidate_caches()
    registry._installed.cache_clear()


def assert_it_moves_to_its_tasks(family, speed):
    env = envs.make_vec_env(family.name)
    start, _ = env.reset(seed=0)
    states, rewards, *_ = env.step(np.ones((4, 1)))
    np.testing.assert_allclose(states, start + speed, rtol=1e-6)
    np.testing.assert_allclose(rewards, -np.abs(states[:, 0] - family.tasks("train")), rtol=1e-6)


def test_a_class_path_names_a_distribution_and_its_options(module):
    family = envs.distribution("own_module.Line")
    assert (family.name, family.env_id, family.planar) == ("Line", "mbml/Line-v0", False)
    assert_it_moves_to_its_tasks(family, 0.1)
    fast = envs.distribution("own_module.Line+speed=0.5")
    assert fast.name == "Line+speed=0.5" and fast == envs.distribution("own_module.Line", speed=0.5)
    assert_it_moves_to_its_tasks(fast, 0.5)
    assert envs.distribution("Line") is family is envs.distribution("own_module.Line")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("no_module.Line", "no task distribution 'no_module.Line': No module named 'no_module'"),
        ("own_module.Lines", "no task distribution 'own_module.Lines': module 'own_module' has no attribute 'Lines'"),
        (".Line", "no task distribution '.Line': Empty module name"),
        ("own_module.LineSimulation", "own_module.LineSimulation is no task distribution: derive it from .*"),
        ("own_module.function", "<function function at .*> is no task distribution: derive it from .*"),
        ("own_module.Undone", "own_module.Undone cannot be made with default options: .*abstract.*"),
        ("own_module.NoDefault", "own_module.NoDefault cannot be made with default options: .*'slope'"),
        ("own_module.Unnamed", "own_module.Unnamed: family is 'a line', expected a name of letters and digits"),
        ("own_module.Clashing", "own_module.Clashing: mbml_lightning.envs.ant.AntDir is called 'AntDir' already: .*"),
        ("own_module.Line+length=1", "Line has no option 'length': choose from speed"),
        ("own_module.Line+speed=fast", "Line: speed is 'fast', expected a value of type float"),
    ],
)
def test_a_class_that_is_no_distribution_is_rejected_in_one_line(module, path, message):
    with pytest.raises(ConfigurationError, match=rf"\A{message}\Z"):
        envs.distribution(path)
    assert type(envs.distribution("AntDir")).__module__ == "mbml_lightning.envs.ant"


def test_a_file_of_a_run_makes_nothing_be_imported(module):
    with pytest.raises(ConfigurationError, match=r"^no task distribution 'own_module.Line\+speed=0.5': a file names a"):
        envs.recorded_distribution("own_module.Line+speed=0.5")
    assert module not in sys.modules
    assert envs.recorded_distribution("HopperParam+limit=1.5") == envs.distribution("HopperParam", limit=1.5)


def test_a_run_by_class_path_is_evaluated_again_from_its_configuration(module, tmp_path, capsys):
    main(command("sac", tmp_path, "--task.distribution=own_module.Line+speed=0.5", "--evaluation.trials=1"))
    run = tmp_path / "sac/seed-0"
    trained = Evaluation.load(run / "evaluation.json")
    assert trained.distribution == "Line+speed=0.5" and list(trained.splits) == ["train"]
    config = saved_configuration(run)
    assert config["model"]["init_args"]["distribution"] == "own_module.Line+speed=0.5"
    envs.DISTRIBUTIONS.pop("Line")  # as in a process of its own
    main(["report", str(tmp_path)])
    assert (tmp_path / "report.html").is_file() and "Line" not in envs.DISTRIBUTIONS
    again = f"--evaluation.folder={tmp_path / 'again'}"
    main(["validate", "-c", str(run / "config.yaml"), "--ckpt_path", str(run / "last.ckpt"), again])
    evaluated = Evaluation.load(tmp_path / "again/evaluation.json")
    np.testing.assert_array_equal(evaluated.splits["train"].returns, trained.splits["train"].returns)
    main(command("bcq", tmp_path, "--task.distribution=own_module.Line+speed=0.5", "--evaluation.trials=1"))
    with pytest.raises(SystemExit) as stop:
        main(command("bcq", tmp_path / "slow", "--task.distribution=own_module.Line", f"--data.store={run / 'data'}"))
    assert "Line+speed=0.5" in str(stop.value.code)


def test_registering_makes_a_class_known_by_name_and_to_gymnasium(module):
    line = importlib.import_module(module).Line
    assert envs.register(line) is line is envs.register(line)
    assert_it_moves_to_its_tasks(envs.distribution("Line"), 0.1)
    env = gym.make("mbml/Line-v0", task=0.3, speed=0.5)
    assert env.unwrapped.distribution == envs.distribution("Line+speed=0.5") and env.unwrapped.task == 0.3
    assert gym.make_vec("mbml/Line-v0", tasks="test").num_envs == 2
    with pytest.raises(ConfigurationError, match=r"^own_module.Clashing: .* is called 'AntDir' already"):
        envs.register(importlib.import_module(module).Clashing)


def test_a_class_that_is_defined_anew_takes_the_place_of_its_older_self(module):
    older = envs.register(importlib.import_module(module).Line)
    newer = importlib.reload(sys.modules[module]).Line
    envs.register(newer)
    assert older is not newer and type(envs.distribution("Line+speed=0.5")) is newer is type(envs.DISTRIBUTIONS["Line"])


def test_an_entry_point_names_a_distribution_that_is_imported_when_it_is_used(module, tmp_path, capsys):
    install(tmp_path, "Line = own_module:Line")
    with pytest.raises(
        ConfigurationError, match=r"^no task distribution 'Lines': choose one of .*, PointGoal, Line, or"
    ):
        envs.distribution("Lines")
    assert module not in sys.modules
    assert_it_moves_to_its_tasks(envs.distribution("Line"), 0.1)
    assert list(envs.every_distribution()) == list(envs.DISTRIBUTIONS) and list(envs.DISTRIBUTIONS)[-1] == "Line"
    main(["envs"])
    assert "mbml/Line-v0" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "Line = own_module:Lines",
            "no task distribution 'Line', entry point own_module:Lines: .* no attribute 'Lines'",
        ),
        (
            "Line = no_module:Line",
            "no task distribution 'Line', entry point no_module:Line: No module named 'no_module'",
        ),
        ("Point = own_module:Line", "name the entry point Point = own_module:Line after the family, Line"),
        ("Line = own_module:function", "<function .*> is no task distribution: derive it from .*"),
        ("AntDir = own_module:Clashing", "own_module.Clashing: .*ant.AntDir is called 'AntDir' already: .*"),
    ],
)
def test_a_wrong_entry_point_is_rejected_in_one_line_when_it_is_used(module, tmp_path, line, message):
    install(tmp_path, line)
    assert envs.distribution("PointGoal").name == "PointGoal"
    for find in (lambda: envs.distribution(line.split()[0]), envs.every_distribution):
        with pytest.raises(ConfigurationError, match=rf"\A{message}\Z"):
            find()


def test_gymnasium_knows_the_distributions_of_installed_packages(module, tmp_path):
    install(tmp_path, "Line = own_module:Line", "not-a-name = own_module:Line")
    script = (
        "import sys, gymnasium, mbml_lightning.envs\n"
        "assert 'own_module' not in sys.modules\n"
        "assert gymnasium.make('mbml/Line-v0', speed=0.5).unwrapped.distribution.name == 'Line+speed=0.5'\n"
        "assert gymnasium.make_vec('mbml/Line-v0').num_envs == 4"
    )
    assert_runs(script, tmp_path)


def test_environments_need_neither_torch_nor_lightning(tmp_path):
    script = (
        "import sys, gymnasium, mbml_lightning.envs\n"
        "gymnasium.make('mbml/AntDir-v0').reset(seed=0)\n"
        "assert not {'torch', 'lightning', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    assert_runs(script, tmp_path)


def assert_runs(script: str, *path: Path) -> None:
    """Run a script in a process of its own, which finds the package and what is in ``path``."""
    insert = f"import sys; sys.path[:0] = {[str(Path(__file__).parents[2]), *map(str, path)]}\n"
    done = subprocess.run([sys.executable, "-c", insert + script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
