"""No file that a command reads can run code or lead it elsewhere: it is refused by name, and nothing was unpickled."""

import ast
import json
import pickle
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import ROOT, TINY, command

import mbml_lightning
from mbml_lightning.cli.main import main
from mbml_lightning.files.store import META
from mbml_lightning.files.writing import hash_json


class Bomb:
    """Leaves a file where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """What must not be there in the end."""
    yield tmp_path / "mark"
    assert not (tmp_path / "mark").exists(), "something was unpickled"


def assert_refused(capsys, *words: str) -> str:
    """The short message of a command that ends without a traceback."""
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    assert stop.value.code not in (0, None)
    message = capsys.readouterr().err + str(stop.value.code)
    assert len(message.splitlines()) < 4
    return message


# Checkpoints.


def plain_pickle(content: dict, path: Path) -> None:
    path.write_bytes(pickle.dumps(content))


def torch_archive(content: dict, path: Path) -> None:
    torch.save(content, path)


def old_torch_file(content: dict, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


DISGUISES = [plain_pickle, torch_archive, old_torch_file]


def validate(*words: str) -> list[str]:
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    return ["validate", "-c", str(ROOT / "conf/mbml.yaml"), *TINY, *quiet, *words]


def offline(experiment: Path, run: Path, path: Path) -> list[str]:
    collectors = json.dumps({"train": str(path), "test": str(path)})
    protocol = ["--evaluation.protocols=[offline-own]", f"--evaluation.collectors={collectors}"]
    weights = f"--ckpt_path={experiment}/mbml/seed-0/last.ckpt"
    return validate(*protocol, weights, f"--experiment={experiment}", f"--run={run}")


READERS = {
    "resumed": lambda e, run, path: command("mbml", e, f"--run={run}", f"--ckpt_path={path}"),
    "resumed with unpickling allowed": lambda e, run, path: command(
        "mbml", e, f"--run={run}", f"--ckpt_path={path}", "--weights_only=false"
    ),
    "last": lambda e, run, path: command("mbml", e, f"--run={path.parent}", "--ckpt_path=last"),
    "evaluated": lambda e, run, path: validate(f"--experiment={e}", f"--run={run}", f"--ckpt_path={path}"),
    "teachers": lambda e, run, path: command("mbml", e, f"--run={run}", f"--model.teachers={path}"),
    "relabeller": lambda e, run, path: command("mbml", e, f"--run={run}", f"--model.relabeller.checkpoint={path}"),
    "next states": lambda e, run, path: command(
        "mbml", e, f"--run={run}", "--task.next_state_threshold=1", f"--model.relabeller.next_state_checkpoint={path}"
    ),
    "collector": offline,
}


@pytest.mark.parametrize("disguise", DISGUISES)
@pytest.mark.parametrize("reader", READERS)
def test_a_checkpoint_with_code_is_refused_wherever_one_is_read(capsys, experiment, tmp_path, mark, reader, disguise):
    path = tmp_path / "stranger" / "last.ckpt"
    path.parent.mkdir()
    honest = torch.load(experiment / "sac/seed-0/last.ckpt", weights_only=True)
    disguise(honest | {"state_dict": Bomb(mark)}, path)
    assert str(path) in assert_refused(capsys, *READERS[reader](experiment, tmp_path / "run", path))


@pytest.mark.parametrize("disguise", DISGUISES)
def test_the_bomb_goes_off_where_it_is_unpickled(tmp_path, disguise):
    disguise({"state_dict": Bomb(tmp_path / "mark")}, tmp_path / "file")
    loaded = pickle.loads if disguise is plain_pickle else lambda _: torch.load(tmp_path / "file", weights_only=False)
    loaded((tmp_path / "file").read_bytes())
    assert (tmp_path / "mark").exists()


# Stores.


@pytest.fixture
def store(experiment, tmp_path) -> Path:
    return shutil.copytree(experiment / "sac/seed-0/data", tmp_path / "store")


def bcq(experiment: Path, run: Path, store: Path) -> list[str]:
    return command("bcq", experiment, f"--run={run}", f"--data.store={store}")


def edit_meta(store: Path, change) -> None:
    """As somebody would who knows the hash."""
    path = store / "task-01" / META
    meta = json.loads(path.read_text())
    change(meta)
    path.write_text(json.dumps(meta | {"sha256": hash_json(meta)}))


def test_a_field_of_objects_is_refused(capsys, experiment, tmp_path, mark, store):
    path = store / "task-01" / "rewards.npy"
    rewards = np.full(np.load(path).shape, Bomb(mark))
    np.save(path, rewards, allow_pickle=True)
    stated = {"shape": list(rewards.shape), "dtype": "object", "sha256": "0"}
    edit_meta(store, lambda meta: meta["fields"].update(rewards=stated))
    assert "is no whole NumPy file of plain numbers" in assert_refused(
        capsys, *bcq(experiment, tmp_path / "run", store)
    )


@pytest.mark.parametrize("name", ["../../rewards", "../task-00/rewards", "{outside}/rewards"])
@pytest.mark.parametrize("instead", [True, False])
def test_a_meta_leads_to_no_other_file(capsys, experiment, tmp_path, store, name, instead):
    outside = shutil.copytree(store / "task-00", tmp_path / "outside")
    name = name.format(outside=outside)

    def change(meta):
        fields = meta["fields"]
        fields[name] = fields.pop("rewards") if instead else fields["rewards"]

    edit_meta(store, change)
    assert f"task-01/{META}: fields are not" in assert_refused(capsys, *bcq(experiment, tmp_path / "run", store))


# The replay of a collection that goes on.


def a_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(mark)))


def a_long_pickle(path: Path, mark: Path) -> None:
    path.write_bytes(pickle.dumps(Bomb(mark)) + bytes(path.stat().st_size))


def an_array_of_objects(path: Path, mark: Path) -> None:
    with path.open("wb") as file:
        np.save(file, np.full(100_000, Bomb(mark)), allow_pickle=True)


def a_folder(path: Path, mark: Path) -> None:
    path.unlink()
    path.mkdir()


def a_link_to_nowhere(path: Path, mark: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


@pytest.mark.parametrize("replace", [a_pickle, a_long_pickle, an_array_of_objects, a_folder, a_link_to_nowhere])
def test_another_file_in_the_place_of_the_replay_is_refused(capsys, experiment, tmp_path, mark, replace):
    run = shutil.copytree(experiment / "sac/seed-0", tmp_path / "run")
    replace(run / "replay.f32", mark)
    assert f"{run}/replay.f32: " in assert_refused(
        capsys, *command("sac", experiment, f"--run={run}", "--ckpt_path=last")
    )


# Archives of arrays.


def with_objects(path: Path, mark: Path) -> None:
    """The same names, with an object in the place of every number."""
    with np.load(path, allow_pickle=False) as arrays:
        names = {name: np.full(arrays[name].shape, Bomb(mark)) for name in arrays.files}
    np.savez(path, **names)


@pytest.mark.parametrize("disguise", ["objects", "pickle"])
@pytest.mark.parametrize("name", ["trajectories.npz", "posteriors.npz"])
def test_a_report_names_an_archive_of_objects(capsys, experiment, tmp_path, mark, name, disguise):
    run = shutil.copytree(experiment / "mbml/seed-0", tmp_path / "runs/mbml/seed-0")
    with_objects(run / name, mark) if disguise == "objects" else a_pickle(run / name, mark)
    main(["report", str(tmp_path / "runs")])
    shown = "".join(capsys.readouterr()).replace("\n", "")
    assert f"{name}: cannot be read" in shown
    assert f"{name}: cannot be read" in (tmp_path / "runs/report.html").read_text()


@pytest.mark.filterwarnings("ignore:The dirpath has changed:UserWarning")
def test_a_training_that_goes_on_begins_an_archive_of_objects_anew(caplog, experiment, tmp_path, mark):
    run = shutil.copytree(experiment / "mbml/seed-0", tmp_path / "run")
    with_objects(run / "posteriors.npz", mark)
    more = [f"--run={run}", "--ckpt_path=last", "--trainer.max_steps=21", "--evaluation.splits=[]"]
    main(command("mbml", experiment, *more, "--trainer.val_check_interval=1"))
    assert "posteriors.npz: cannot be read" in caplog.text
    with np.load(run / "posteriors.npz", allow_pickle=False) as arrays:
        assert set(arrays.files) == {"after_own", "after_relabelled"}


# The package itself.

RUN_CODE = {"pickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "pandas", "yaml", "jsonpickle"}
"""Modules of which nothing may be called."""
NEVER = {"eval", "exec", "__import__", "load_from_checkpoint", "Unpickler"}
"""Functions that may not be called, of whatever module."""


def calls(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """Every call of a module by its full name, with its keyword arguments as they are written."""
    tree, names = ast.parse(path.read_text()), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = f"{node.module}." if isinstance(node, ast.ImportFrom) else ""
            names |= {alias.asname or alias.name: module + alias.name for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            first, dot, rest = ast.unparse(node.func).partition(".")
            yield names.get(first, first) + dot + rest, {str(k.arg): ast.unparse(k.value) for k in node.keywords}


def unsafe(name: str, given: dict[str, str]) -> bool:
    """Whether a call could run what a file says."""
    module, _, function = name.rpartition(".")
    if function == "load" and module in ("torch", "numpy"):
        safe = {"torch": {"weights_only": "True"}, "numpy": {"allow_pickle": "False"}}[module]
        return not safe.items() <= given.items() or "mmap_mode" in given or "pickle_module" in given
    if module == "yaml.SafeDumper":  # it writes
        return False
    if module.startswith("torch.") and function == "load":  # torch.jit, torch.package, torch.hub
        return True
    return module.split(".")[0] in RUN_CODE or function in NEVER or given.get("allow_pickle", "False") != "False"


MODULES = sorted(Path(mbml_lightning.__file__).parent.rglob("*.py"))


def test_no_module_unpickles():
    found = [f"{path.name}: {name}" for path in MODULES for name, given in calls(path) if unsafe(name, given)]
    assert len(MODULES) > 50 and not found


@pytest.mark.parametrize(
    "line",
    [
        "from pickle import loads as read; read(b'')",
        "import torch as t; t.load(path)",
        "import torch; torch.load(path, weights_only=weights_only)",
        "from numpy import load; load(path)",
        "import numpy as np; np.load(path, allow_pickle=False, mmap_mode='r')",
        "import numpy as np; np.lib.format.read_array(file, allow_pickle=True)",
        "BCQ.load_from_checkpoint(path)",
        "from yaml import Loader, SafeDumper, load; load(text, Loader)",
    ],
)
def test_unpickling_would_be_found(tmp_path, line):
    (tmp_path / "module.py").write_text(line)
    assert any(unsafe(*call) for call in calls(tmp_path / "module.py"))
