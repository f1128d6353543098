"""Weights & Biases going away in the middle of a run: the run goes on, and its end waits for a bounded time."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest
import torch
from commands import ROOT, command

PROJECT = {"id": "p", "name": "mbml", "entity": {"id": "e", "name": "me"}}
RUN = {"id": "r", "name": "run", "displayName": "run", "config": "{}", "historyLineCount": 0, "project": PROJECT}
ANSWERS = {
    "viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}},
    "upsertBucket": {"bucket": RUN, "inserted": True},
    "createRunFiles": {"runID": "r", "uploadHeaders": [], "files": []},
}
"""As much of W&B's GraphQL as a run needs."""


class Server(ThreadingHTTPServer):
    """Answers until it is ``away``; what asks it then waits in vain."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.streamed, self.away, self.over = Event(), Event(), Event()


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.server.away.is_set():
            self.server.over.wait()
            return
        if self.path.endswith("file_stream"):
            self.server.streamed.set()
        answer = json.dumps({"data": ANSWERS} if self.path == "/graphql" else {}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@contextmanager
def serving() -> Iterator[Server]:
    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.over.set()
        server.shutdown()


UPDATES, BLOCK, PATIENCE = 300, 5, 4


def start(experiment: Path, run: Path, port: int) -> subprocess.Popen:
    """A training that is tracked at this port, by a process that waits ``PATIENCE`` seconds for it at its end."""
    words = ["--trainer", str(ROOT / "conf/trainer/wandb.yaml"), f"--run={run}", f"--trainer.max_steps={UPDATES}"]
    words += [f"--model.updates_per_block={BLOCK}", "--evaluation.splits=[]"]
    ours = {"WANDB_BASE_URL": f"http://127.0.0.1:{port}", "WANDB_API_KEY": "0" * 40, "WANDB_MODE": "online"}
    ours |= {f"WANDB_{name}_DIR": str(run / name) for name in ("CONFIG", "CACHE", "DATA")}
    ours |= {f"WANDB_{name}_TIMEOUT": str(PATIENCE) for name in ("INIT", "FINISH")}
    line = [sys.executable, "-m", "mbml_lightning", *command("bcq", experiment, *words)]
    run.mkdir()
    with (run / "output").open("w") as output:
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | ours
        return subprocess.Popen(line, env=environment, cwd=run, stdout=output, stderr=subprocess.STDOUT)


def blocks(run: Path) -> int:
    """How many blocks of updates were logged."""
    path = run / "metrics.jsonl"
    return sum("train/q_loss" in json.loads(line) for line in path.read_text().splitlines()) if path.exists() else 0


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.parametrize("silent", [pytest.param(False, id="gone"), pytest.param(True, id="silent")])
def test_a_run_goes_on_and_ends_without_the_server(experiment, tmp_path, silent):
    run = tmp_path / "run"
    with serving() as server:
        process = start(experiment, run, server.server_port)
        while not (seen := blocks(run)) and process.poll() is None:
            time.sleep(0.02)
        server.away.set()
        if not silent:
            server.shutdown()
            server.server_close()
        assert process.wait(200) == 0, (run / "output").read_text()
    waited = time.time() - (run / "last.ckpt").stat().st_mtime
    assert server.streamed.is_set(), "it was never tracked"
    assert 0 < seen < blocks(run) == UPDATES // BLOCK
    assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] == UPDATES
    assert waited < PATIENCE + 40
    assert list(run.glob("wandb/run-*/*.wandb")), "what was not sent is kept for `wandb sync`"
