"""Command lines of the phases at tiny scale."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = ["--task", str(ROOT / "conf/task/point_goal.yaml"), "--scale", str(ROOT / "conf/scale/tiny.yaml")]
PHASES = {
    "sac": ["fit", "-c", str(ROOT / "conf/sac.yaml")],
    "bcq": ["fit", "-c", str(ROOT / "conf/bcq.yaml")],
    "reward_ensemble": ["fit", "-c", str(ROOT / "conf/reward_ensemble.yaml")],
    "next_state_ensemble": ["fit", "-c", str(ROOT / "conf/next_state_ensemble.yaml")],
    "mbml": ["fit", "-c", str(ROOT / "conf/mbml.yaml")],
    "neither": ["fit", "-c", str(ROOT / "conf/mbml.yaml"), "-c", str(ROOT / "conf/ablation/neither.yaml")],
    "random": ["validate", "-c", str(ROOT / "conf/random.yaml")],
}


def command(phase: str, experiment: Path, *more: str) -> list[str]:
    """The command line of a phase at tiny scale."""
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    return [*PHASES[phase], *TINY, "--experiment", str(experiment), *quiet, *more]
