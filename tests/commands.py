"""Command lines of the phases and methods at tiny scale."""

from pathlib import Path

ROOT = Path(__file__).parent.parent
TINY = ["--task", str(ROOT / "conf/task/point_goal.yaml"), "--scale", str(ROOT / "conf/scale/tiny.yaml")]


def fit(method: str, *overlays: str) -> list[str]:
    """What fits a method file and files over it."""
    return ["fit", *(word for name in (method, *overlays) for word in ("-c", str(ROOT / f"conf/{name}.yaml")))]


PHASES = {
    "sac": fit("sac"),
    "bcq": fit("bcq"),
    "reward_ensemble": fit("reward_ensemble"),
    "next_state_ensemble": fit("next_state_ensemble"),
    "mbml": fit("mbml"),
    "neither": fit("mbml", "ablation/neither"),
    "random": ["validate", "-c", str(ROOT / "conf/random.yaml")],
}
"""What the fixture `experiment` holds, in the order in which phases need each other."""
BASELINES = {name: fit(name) for name in ("contextual_bcq", "pearl", "multi_task_bc")}
ABLATIONS = {
    path.stem: fit("mbml", f"ablation/{path.stem}") for path in sorted((ROOT / "conf/ablation").glob("*.yaml"))
}
COLLECTORS = {f"sac_{split}": fit("sac", f"split/{split}") for split in ("test", "ood")}
"""SAC on unseen tasks."""
EVERY = PHASES | BASELINES | ABLATIONS
"""All that are trained on the train tasks, still in an order in which they can run."""
ACTING = [name for name in EVERY if not name.endswith("_ensemble") or name == "no_ensemble"]
"""Those that learn or choose actions."""


def phases(task: dict) -> list[str]:
    """All that can run on the distribution of a task file.

    Next states are predicted only where tasks differ in their physics, and only there have tasks no true rewards to
    relabel with.
    """
    left_out = "ground_truth" if "next_state_threshold" in task else "next_state_ensemble"
    return [phase for phase in EVERY if phase != left_out]


def command(phase: str, experiment: Path, *more: str) -> list[str]:
    """The command line of a phase at tiny scale."""
    quiet = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu"]
    return [*(EVERY | COLLECTORS)[phase], *TINY, "--experiment", str(experiment), *quiet, *more]
