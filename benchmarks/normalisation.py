"""Measures what normalised scores are relative to: random actions on every official task, SAC where it was trained."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mbml_lightning import envs
from mbml_lightning.evaluation.adaptation import adapt
from mbml_lightning.files.evaluation import Evaluation
from mbml_lightning.policies.gaussian import UniformPolicy
from mbml_lightning.results import normalisation
from mbml_lightning.results.statistics import counted_return
from mbml_lightning.seeds import EpisodeSeeds

FILE = Path(normalisation.__file__).with_name(normalisation.DATA)
TABLE_9, APPENDIX_G = "Table 9 of the paper, its training tasks", "Appendix G of the paper, its unseen tasks"
PUBLISHED = {
    "HalfCheetahVel": (-121.3, TABLE_9),
    "HalfCheetahVel+torso_position=False": (-121.3, TABLE_9),
    "AntDir": (920.9, TABLE_9),
    "AntGoal": (-99.6, TABLE_9),
    "WalkerParam": (671.1, TABLE_9),
    "HumanoidDirM": (2116.1, TABLE_9),
    "UmazeGoalM": (252.8, TABLE_9),
    "HumanoidDir": (988.0, APPENDIX_G),
}
"""SAC's mean return, and where the paper reports it."""


def random_returns(family: envs.TaskDistribution, split: str, episodes: int) -> list[float]:
    """Mean return of uniformly random actions on every task of a set."""
    policy, trials = UniformPolicy(family.action_dim), range(episodes)
    seeds = [EpisodeSeeds(0, split, [task], trials) for task in range(len(family.tasks(split)))]
    return [round(float(adapt(policy, None, family, one, episodes=1).returns.mean()), 2) for one in seeds]


def sac_returns(run: Path) -> tuple[str, dict[str, Any]]:
    """The distribution of a run of SAC, and its returns on its own training tasks."""
    evaluation = Evaluation.load(run / "evaluation.json")
    if evaluation.method != "SAC":
        raise SystemExit(f"{run}: is a run of {evaluation.method}, not of SAC")
    returns = counted_return(evaluation.splits["train"].returns, evaluation.uncounted).mean(1)
    source = f"SAC of this package after {evaluation.step} updates: {evaluation.made_by['command']}"
    train = [round(float(x), 2) for x in returns]
    return evaluation.distribution, {"train": train, "mean": round(float(np.mean(train)), 2), "source": source}


def main(words: Sequence[str]) -> None:
    """Measure and write the package's table."""
    parser = argparse.ArgumentParser("python -m benchmarks.normalisation", description=__doc__)
    parser.add_argument("distributions", nargs="*", help="whose random returns are measured anew")
    parser.add_argument("--episodes", type=int, default=100, help="on every task (default: %(default)s)")
    parser.add_argument("--sac", nargs="*", type=Path, default=[], help="folders of finished SAC runs")
    options = parser.parse_args(words)
    table = json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}
    for name in options.distributions:
        family = envs.distribution(name)
        random = {split: random_returns(family, split, options.episodes) for split in family.splits}
        table.setdefault(name, {})["random"] = {"episodes": options.episodes, **random}
        if name in PUBLISHED:
            mean, source = PUBLISHED[name]
            table[name].setdefault("sac", {"mean": mean, "source": source})
        print(name, {split: round(float(np.mean(returns)), 1) for split, returns in random.items()})
    for run in options.sac:
        name, returns = sac_returns(run)
        table.setdefault(name, {})["sac"] = returns
        print(name, "SAC", returns["mean"])
    FILE.write_text(json.dumps(table, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
