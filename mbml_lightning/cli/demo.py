"""``mbml demo``: the whole method on one distribution, from nothing to a report."""

import os
import signal
import subprocess
import sys
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from omegaconf import OmegaConf

from mbml_lightning.cli.names import shipped
from mbml_lightning.errors import ConfigurationError


def demo_command(words: Sequence[str]) -> None:
    """Run what is missing of the pipeline, and report; ``words`` comes after ``mbml demo``.

    Raises:
        ConfigurationError: Snakemake is not installed.
    """
    parser = ArgumentParser("mbml demo", description="Collect, train teachers, MBML and an ablation, and compare them.")
    parser.add_argument("--task", default="umaze_goal_m", help="a file of conf/task (default: %(default)s)")
    parser.add_argument("--scale", default="laptop", help="a file of conf/scale (default: %(default)s)")
    parser.add_argument("--seeds", default="0", help="such as 0,1,2 (default: %(default)s)")
    parser.add_argument("--runs", default="runs", help="folder of the experiment's folder (default: %(default)s)")
    parser.add_argument("--cores", default=str(os.cpu_count()), help="runs side by side (default: %(default)s)")
    options = parser.parse_args(words)
    if find_spec("snakemake") is None:
        raise ConfigurationError("mbml demo runs on Snakemake: pip install 'mbml-lightning[workflow]'")
    if code := workflow(options.cores, {name: getattr(options, name) for name in ("task", "scale", "seeds", "runs")}):
        sys.exit(code)
    from mbml_lightning.report.report import report  # after parsing: a second of SciPy and Matplotlib

    report([experiment(options.runs, options.task, options.scale)], None)


def workflow(cores: str, config: Mapping[str, str]) -> int:
    """Run the workflow's target ``demo`` to its end; returns its exit code.

    An interrupt from the keyboard reaches all processes: this one waits until the others have ended in order.
    """
    words = [sys.executable, "-m", "snakemake", "--snakefile", str(shipped().parent / "workflow/Snakefile")]
    words += ["--cores", cores, "--quiet", "host", "progress", "reason", "rules", "--nolock", "--rerun-incomplete"]
    words += ["--config", *(f"{name}={value}" for name, value in config.items()), "--", "demo"]
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # the rules call `mbml`
    process = subprocess.Popen(words, env=os.environ | {"PATH": path})
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue
        signal.signal(signal.SIGTERM, before)
        return code


def experiment(runs: str, task: str, scale: str) -> Path:
    """Return the folder of the experiment, which the workflow names after the distribution and the scale."""
    spec = OmegaConf.load(shipped() / f"task/{task}.yaml")
    return Path(runs, f"{spec.distribution}-{scale}")
