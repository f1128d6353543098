"""Full disks, folders that cannot be written, damaged and misplaced files: said in one line, and nothing is lost."""

import json
import resource
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from commands import command
from hypothesis import given
from hypothesis import strategies as st

from mbml_lightning import algorithms
from mbml_lightning.cli.main import main
from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.checkpoints import Checkpoint, hash_tensors
from mbml_lightning.files.store import read_store

BLOCKS = ["--model.updates_per_block=5", "--checkpoint.every_n_updates=5", "--evaluation.trials=1"]


def words(phase: str, experiment: Path, run: Path, *more: str) -> list[str]:
    return command(phase, experiment, *BLOCKS, f"--run={run}", "--ckpt_path=last", *more)


def error_of(words: list[str]) -> str:
    """The one line of a command that fails."""
    with pytest.raises(SystemExit) as stop:
        main(words)
    message = str(stop.value.code)
    assert message.startswith("mbml: error: ") and "\n" not in message
    return message


def final(run: Path) -> dict:
    return torch.load(run / "last.ckpt", weights_only=True)


# Full disks and read-only folders -------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Path]:
    """A disk of its own, which ``remount`` makes smaller, larger or read-only."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", disk], capture_output=True)
    if mounted.returncode:
        pytest.skip("a small disk cannot be mounted here: needs root")
    yield disk
    subprocess.run(["umount", "-l", disk], check=True)


def remount(disk: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", disk], check=True)


def fill(disk: Path, but: int) -> None:
    """Leave so many bytes."""
    space = shutil.disk_usage(disk).free
    (disk / "filler").write_bytes(bytes(max(0, space - but)))


def test_a_disk_that_fills_up_under_a_checkpoint(experiment, small_disk, tmp_path):
    run = small_disk / "run"
    main(words("bcq", experiment, run, "--trainer.max_steps=10"))
    size = (run / "last.ckpt").stat().st_size
    fill(small_disk, size // 2)
    message = error_of(words("bcq", experiment, run))
    assert f"{run}/last.ckpt: cannot be written (No space left on device)" in message
    assert "an earlier file is kept" in message and "--ckpt_path last" in message
    assert final(run)["global_step"] == 10
    assert not list(run.glob(".*.partial"))
    (small_disk / "filler").unlink()
    main(words("bcq", experiment, run))
    main(words("bcq", experiment, tmp_path / "whole"))
    assert hash_tensors(final(run)["state_dict"]) == hash_tensors(final(tmp_path / "whole")["state_dict"])


def test_a_disk_that_is_full_under_a_log(experiment, small_disk, tmp_path):
    """Half a line may be there; the run that goes on begins a new one."""
    more = [f"--trainer.logger.save_dir={small_disk}", "--trainer.limit_val_batches=0"]
    run, log = tmp_path / "run", small_disk / "metrics.jsonl"
    main(words("bcq", experiment, run, "--trainer.max_steps=5", *more))
    with log.open("a") as file:
        file.write("x" * (4096 - log.stat().st_size - 20))  # to the last bytes of its last page
    fill(small_disk, 0)
    assert f"{log}: cannot be written (No space left on device)" in error_of(words("bcq", experiment, run, *more))
    assert log.stat().st_size == 4096
    (small_disk / "filler").unlink()
    main(words("bcq", experiment, run, *more))
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()[3:]] == [10, 15, 20]


def test_a_disk_that_fills_up_under_a_store(experiment, small_disk, tmp_path):
    more = [f"--data.store={small_disk}/store/data"]
    fill(small_disk, 120_000)  # enough for the replay
    message = error_of(words("sac", experiment, tmp_path / "run", *more))
    assert f"{small_disk}/store" in message and "No space left on device" in message
    assert [path.name for path in (small_disk / "store").iterdir()] == ["replay.f32"]
    (small_disk / "filler").unlink()
    main(words("sac", experiment, tmp_path / "run", *more))
    main(words("sac", experiment, tmp_path / "whole"))
    assert read_store(small_disk / "store/data").digest == read_store(tmp_path / "whole/data").digest


def test_a_disk_that_becomes_read_only(experiment, small_disk):
    run = small_disk / "run"
    main(words("bcq", experiment, run, "--trainer.max_steps=10"))
    remount(small_disk, "ro")
    assert f"{run}/.lock: cannot be written (Read-only file system)" in error_of(words("bcq", experiment, run))
    assert final(run)["global_step"] == 10


def test_a_run_folder_that_cannot_be_made(experiment):
    message = error_of(words("bcq", experiment, Path("/proc/nowhere/run")))
    assert "/proc/nowhere/run" in message and "cannot be written" in message


def test_a_file_that_may_not_grow(tmp_path):
    """As where a quota is used up: what was written so far is taken away, what was there stays."""
    path, limits = tmp_path / "last.ckpt", resource.getrlimit(resource.RLIMIT_FSIZE)
    checkpoint = {"state_dict": {"weight": torch.arange(100_000.0)}}
    sealed = Checkpoint.seal(checkpoint, {})
    sealed.write(path)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
        with pytest.raises(CheckpointError, match=r"last\.ckpt: cannot be written \(File too large\)"):
            sealed.write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(Checkpoint.read(path).state_dict["weight"], checkpoint["state_dict"]["weight"])


# Damaged checkpoints --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkpoint(experiment) -> Path:
    return experiment / "bcq/seed-0/last.ckpt"


@pytest.fixture(scope="module")
def scratch(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("damaged") / "last.ckpt"


@given(st.data())
def test_damaged_bytes_of_a_checkpoint_are_noticed(checkpoint, scratch, data):
    content, place = bytearray(checkpoint.read_bytes()), st.integers(0, checkpoint.stat().st_size - 1)
    match data.draw(st.sampled_from(["flip", "cut", "zeros", "swap", "longer"])):
        case "flip":
            content[data.draw(place)] ^= 1 << data.draw(st.integers(0, 7))
        case "cut":
            del content[data.draw(place) :]
        case "zeros":
            start = data.draw(place)
            content[start : start + 512] = bytes(len(content[start : start + 512]))
        case "swap":
            a, b = data.draw(place), data.draw(place)
            content[a : a + 64], content[b : b + 64] = content[b : b + 64], content[a : a + 64]
        case "longer":
            content += bytes(data.draw(st.integers(1, 5000)))
    scratch.write_bytes(content)
    try:
        read = Checkpoint.read(scratch).content  # what no reader looks at may be changed
    except CheckpointError as error:
        assert str(error).startswith(f"{scratch}: ") and "\n" not in str(error)
    else:
        whole = Checkpoint.read(checkpoint).content
        assert hash_tensors(read["state_dict"]) == hash_tensors(whole["state_dict"])
        assert hash_tensors(read["optimizer_states"]) == hash_tensors(whole["optimizer_states"])


@pytest.mark.parametrize("change", ["weights", "moments", "what it is of", "the hash"])
def test_changed_content_of_a_checkpoint_is_noticed(checkpoint, scratch, change):
    content = torch.load(checkpoint, weights_only=True)
    if change == "weights":
        next(iter(content["state_dict"].values())).view(-1)[0] += 1e-7
    elif change == "moments":
        content["optimizer_states"][0]["state"][0]["exp_avg"].view(-1)[0] += 1e-7
    elif change == "what it is of":
        content["mbml"]["data"] = "0" * 64
    else:
        content["mbml"]["sha256"] = "0" * 64
    torch.save(content, scratch)
    with pytest.raises(CheckpointError, match="its content is not that of its SHA-256"):
        Checkpoint.read(scratch)


# What does not fit together -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def other_store(experiment, tmp_path_factory) -> Path:
    """Data of another seed, in the place of an experiment's."""
    folder = tmp_path_factory.mktemp("other")
    shutil.copytree(experiment, folder, dirs_exist_ok=True)
    shutil.rmtree(folder / "sac")
    main([*command("sac", folder), "--data.seed=1"])
    return folder


def test_a_run_does_not_go_on_with_other_data(other_store):
    message = error_of(words("bcq", other_store, other_store / "bcq/seed-0", "--trainer.max_steps=30"))
    assert "last.ckpt: was trained on other data (SHA-256 " in message


def test_teachers_of_other_data_are_refused(other_store, tmp_path):
    message = error_of(words("mbml", other_store, tmp_path))
    assert "bcq/seed-0/last.ckpt: was trained on other data (SHA-256 " in message


@pytest.mark.parametrize(
    ("phase", "word", "said"),
    [
        ("bcq", "--model.discount=0.5", "model.discount was 0.99 and is 0.5"),
        ("mbml", "--model.hooks.triplet.margin=7", "model.hooks.triplet.margin was 2.0 and is 7.0"),
        ("mbml", "--task.relabel_threshold=9", "model.relabeller.threshold was"),
        ("sac", "--data.seed=7", "data.seed was 0 and is 7"),
    ],
)
def test_a_run_does_not_go_on_with_other_arguments(experiment, tmp_path, phase, word, said):
    run = tmp_path / "run"
    shutil.copytree(experiment / phase / "seed-0", run)
    message = error_of(command(phase, experiment, f"--run={run}", "--ckpt_path=last", word))
    assert f"last.ckpt: {said}" in message and "begin a new run" in message


def test_a_run_does_not_go_on_with_other_teachers(experiment, tmp_path):
    main(words("mbml", experiment, tmp_path / "run", "--trainer.max_steps=10"))
    main(command("bcq", experiment, f"--run={tmp_path / 'bcq'}", "--model.seed=1"))
    message = error_of(words("mbml", experiment, tmp_path / "run", f"--model.teachers={tmp_path}/bcq/last.ckpt"))
    assert "last.ckpt: began with other weights of teachers (SHA-256 " in message


def test_weights_of_other_networks_are_refused(experiment, tmp_path):
    weights = f"--ckpt_path={experiment}/bcq/seed-0/last.ckpt"
    line = command("bcq", experiment, f"--run={tmp_path}", weights, "--model.hidden=[8, 8]")
    message = error_of(["validate", *line[1:]])
    assert "weights do not fit the configuration (size mismatch for networks.q.mlp" in message


def test_a_weight_that_is_not_finite_is_named_and_the_last_checkpoint_kept(experiment, tmp_path, monkeypatch):
    """Its loss was finite before the step that broke it."""
    plain, done = algorithms.BCQ.update, []

    def update(self, batch):
        done.append(plain(self, batch))
        if len(done) == 15:
            self.networks.q.mlp.biases[0].data[0, 0, 0] = float("inf")
        return done[-1]

    monkeypatch.setattr(algorithms.BCQ, "update", update)
    message = error_of(words("bcq", experiment, tmp_path))
    assert "networks.q.mlp.biases.0 is not finite after 15 updates" in message
    assert "the last checkpoint is kept" in message
    assert final(tmp_path)["global_step"] == 10


def test_artefacts_say_what_made_them(experiment):
    """A store, checkpoints and an evaluation, each with the hashes of what it came from."""
    store = read_store(experiment / "sac/seed-0/data")
    bcq, ensemble, mbml = (final(experiment / name / "seed-0")["mbml"] for name in ("bcq", "reward_ensemble", "mbml"))
    assert bcq["data"] == ensemble["data"] == mbml["data"] == store.digest
    assert mbml["parents"] == {"teachers": bcq["weights"], "rewards": ensemble["weights"]}
    assert mbml["config"]["model"]["init_args"]["hooks"]["triplet"]["init_args"]["margin"] == 2.0
    evaluation = json.loads((experiment / "mbml/seed-0/evaluation.json").read_text())
    settings = {"seed": 0, "max_context": None, "context_episodes": 1}
    made_of = {name: mbml[name] for name in ("weights", "data", "parents", "config")}
    assert evaluation["made_of"] == made_of | {"settings": settings}
    collector = store.meta["collector"]
    assert collector["config"]["scale"]["interactions"] == 200 and "torch" in collector["made_by"]["versions"]
