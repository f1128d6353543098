"""A process that is killed at a chosen moment, be it in the middle of a file."""

import ctypes
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mbml_lightning.cli.main import main as mbml

KINDS = ("time", "write", "half")
CALLS = ("os.rename", "os.mkdir", "os.remove", "os.rmdir")
"""Audit events that change a folder, beside "open"."""
PATIENCE = 300
"""Seconds until a run hangs."""

FORK = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Moment:
    """When a run is killed; by default never.

    Args:
        kind: Of ``KINDS``.
        seconds: For `time`, after the start.
        call: For `write` and `half`, which of the process's calls; the first is 1.
        share: For `half`, of the file's bytes.
        files: For `half`, the files of a finished run and their bytes.
    """

    kind: str = ""
    seconds: float = PATIENCE
    call: int = 0
    share: float = 0.0
    files: dict[str, int] = field(default_factory=dict)


class Ending(NamedTuple):
    """How a process ended: its exit code, whether the moment killed it, its calls, the limit of files, its seconds."""

    code: int
    killed: bool
    calls: dict[str, int]
    limit: int
    seconds: float


class Killer:
    """An audit hook that kills its own process at a moment.

    Args:
        run: Folder in which calls count.
        moment: When.
        seen: Calls so far, those of them that open a file, and the limit that was set; the parent reads them.
    """

    def __init__(self, run: Path, moment: Moment, seen: Any) -> None:
        self.run, self.moment, self.seen = os.path.join(run.resolve(), ""), moment, seen

    def __call__(self, event: str, args: tuple[Any, ...]) -> None:
        """Count a call that writes below the folder, and be killed before it, or within what it will write."""
        opens = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR)
        if not (opens or event in CALLS) or not any(map(self.below, args[:2])):
            return
        self.seen[0] += 1
        self.seen[1] += bool(opens)
        if self.moment.kind == "write" and self.seen[0] == self.moment.call:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.moment.kind == "half" and opens and self.seen[1] == self.moment.call:
            self.stop_within(os.fspath(args[0]), bool(args[2] & os.O_TRUNC))

    def below(self, path: Any) -> bool:
        """Whether something is a path in the run's folder, or the folder itself."""
        return isinstance(path, str | os.PathLike) and os.path.join(os.path.abspath(path), "").startswith(self.run)

    def stop_within(self, path: str, anew: bool) -> None:
        """Limit files to a part of what this one will grow to; temporary names contain the final one."""
        name, start = os.path.basename(path), os.path.getsize(path) if os.path.exists(path) and not anew else 0
        end = next((size for final, size in self.moment.files.items() if final in name), 1)
        self.seen[2] = start + int(self.moment.share * max(0, end - start))
        ctypes.CDLL(None).signal(signal.SIGXFSZ, die)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.seen[2], resource.RLIM_INFINITY))


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def die(_: int) -> None:
    """Handles SIGXFSZ from C: within the write, before Python hears of it."""
    os.kill(os.getpid(), signal.SIGKILL)


def child(words: Sequence[str], run: Path, moment: Moment, seen: Any) -> None:
    """One process of a run."""
    # Where Lightning hands the signals back, it gets this one: Python by default ignores SIGXFSZ.
    signal.signal(signal.SIGXFSZ, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    sys.addaudithook(Killer(run, moment, seen))
    mbml(words)


def start(words: Sequence[str], run: Path, moment: Moment) -> Ending:
    """Begin or resume a run, and wait for its moment or its end."""
    seen, started = FORK.RawArray("q", [0, 0, -1]), time.perf_counter()
    process = FORK.Process(target=child, args=(words, run, moment, seen))
    process.start()
    process.join(moment.seconds)
    if sent := process.is_alive():
        process.kill()
    process.join()
    calls, opens, limit = seen
    meant = {"time": sent, "write": calls == moment.call, "half": limit >= 0}.get(moment.kind, False)
    killed = process.exitcode == -signal.SIGKILL and meant
    return Ending(process.exitcode or 0, killed, {"write": calls, "half": opens}, limit, time.perf_counter() - started)
