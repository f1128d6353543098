"""Several ranks from one test: forked, so that nothing is imported twice, and told of each other as torchrun does."""

import multiprocessing
import os
import socket
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from pathlib import Path

from mbml_lightning import ranks
from mbml_lightning.cli.main import main


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def torchrun(rank: int, count: int, port: int) -> dict[str, str]:
    """What torchrun tells a rank."""
    numbers = {"RANK": rank, "LOCAL_RANK": rank, "GROUP_RANK": 0, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
    where = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return {name: str(value) for name, value in (numbers | where).items()}


def slurm(rank: int, count: int, port: int) -> dict[str, str]:
    """What ``srun`` tells a rank, two hosts with half of them each."""
    per_host = count // 2
    numbers = {"PROCID": rank, "LOCALID": rank % per_host, "NODEID": rank // per_host, "NTASKS": count}
    names = {"JOB_ID": 15000 + port % 10000, "JOB_NAME": "train", "NODELIST": "localhost", "NNODES": 2}
    return {f"SLURM_{name}": str(value) for name, value in (numbers | names | {"NTASKS_PER_NODE": per_host}).items()}


def run_on_ranks(
    count: int,
    words: Sequence[str],
    told: Callable[[int, int, int], dict[str, str]] = torchrun,
    prepare: Callable[[int], None] = lambda rank: None,
    errors: Path | None = None,
    seconds: float = 120,
) -> list[int | None]:
    """Run a command on some ranks; their exit codes, None of one that hung.

    Args:
        count: How many.
        words: The command.
        told: What each finds in its environment.
        prepare: Called in each before the command, with its rank.
        errors: A folder in which each leaves what it said, as ``<rank>.txt``.
        seconds: How long they have.
    """
    port = free_port()

    def one(rank: int) -> None:
        os.environ.update(told(rank, count, port))
        with open(errors / f"{rank}.txt" if errors else os.devnull, "w") as said, redirect_stderr(said):
            try:
                prepare(rank)
                main(words)
            except SystemExit as stop:
                said.write(stop.code if isinstance(stop.code, str) else "")
                code = stop.code if isinstance(stop.code, int) else 1
            except BaseException:
                traceback.print_exc()
                code = 1
            else:
                code = 0
        sys.stdout.flush()
        os._exit(code)  # none of pytest's own endings

    processes = [multiprocessing.get_context("fork").Process(target=one, args=(rank,)) for rank in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(seconds)
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    return codes


def leave_weights(folder: Path) -> Callable[[int], None]:
    """Each rank writes down the hash of what it ended with."""

    def prepare(rank: int) -> None:
        from mbml_lightning.algorithms import Algorithm
        from mbml_lightning.files.checkpoints import hash_tensors

        def on_train_end(self: Algorithm) -> None:
            moments = [optimizer.state_dict() for optimizer in self.optimizer_list()]
            (folder / f"weights-{ranks.rank()}").write_text(hash_tensors([self.state_dict(), moments]))

        Algorithm.on_train_end = on_train_end

    return prepare
