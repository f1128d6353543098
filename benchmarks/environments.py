"""Steps of UmazeGoal-M a second: ours, MuJoCo's batch with little and with no Python between, and a plain loop."""

import argparse
import functools
import statistics
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.utils import seeding

from benchmarks.measuring import Rows, alternate, publish, speed_up, spread
from mbml_lightning import envs
from mbml_lightning.envs.maze import MAX_SPEED, START, maze_model

FAMILY = envs.UmazeGoalM()
REACH = 0.5
"""Of the random actions: so small that no particle reaches MAX_SPEED, whose cut the call without Python knows not."""


class PlainMaze(gym.Env[np.ndarray, np.ndarray]):
    """One maze as Gymnasium's own MuJoCo environments are written.

    Args:
        goal: The task.
        horizon: Steps after which an episode is truncated.
    """

    def __init__(self, goal: np.ndarray, horizon: int) -> None:
        self.model, self.goal, self.horizon = maze_model(), goal, horizon
        self.data = mujoco.MjData(self.model)
        self.observation_space, self.action_space = FAMILY.observation_space, FAMILY.action_space

    def observe(self) -> np.ndarray:
        """Position and speed."""
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Near the start, nearly at rest."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = START + self.np_random.uniform(-0.1, 0.1, size=2)
        self.data.qvel[:] = 0.1 * self.np_random.standard_normal(2)
        mujoco.mj_forward(self.model, self.data)
        self.elapsed = 0
        return self.observe(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """One physics step."""
        self.data.qvel[:] = np.clip(self.data.qvel, -MAX_SPEED, MAX_SPEED)
        self.data.ctrl[:] = np.clip(action, -1, 1)
        mujoco.mj_step(self.model, self.data)
        self.elapsed += 1
        observation = self.observe()
        reward = float(np.exp(-np.linalg.norm(observation[:2] - self.goal)))
        return observation, reward, False, self.elapsed >= self.horizon, {"reward_goal": reward}


def episodes(goals: np.ndarray, actions: np.ndarray, threads: int) -> dict[str, Callable[[], np.ndarray]]:
    """Ways to reset all copies and take the actions; each returns the last observations.

    Args:
        goals: One a copy, ``(n, 2)``.
        actions: ``(T, n, 2)``.
        threads: MuJoCo's.
    """
    n, horizon = len(goals), len(actions)
    everywhere, controls = np.ones(n, dtype=bool), np.ascontiguousarray(actions.swapaxes(0, 1))
    simulation = FAMILY.simulation(goals, threads)
    vector_env = envs.TaskVectorEnv(FAMILY, goals, threads)
    package = [gym.make(FAMILY.env_id, task=goal, disable_env_checker=True) for goal in goals]
    plain = [PlainMaze(goal, horizon) for goal in goals]

    def restart() -> None:
        simulation.reset(everywhere, [seeding.np_random(copy)[0] for copy in range(n)])

    def no_python() -> np.ndarray:
        restart()
        simulation.batch.rollout(horizon, controls)
        return simulation.observe()

    def batch() -> np.ndarray:
        restart()
        for action in actions:
            simulation.batch.ctrl[...] = action
            simulation.batch.step()
        return simulation.observe()

    def vector() -> np.ndarray:
        observations, _ = vector_env.reset(seed=0)
        for action in actions:
            observations, *_ = vector_env.step(action)
        return observations

    def loop(singles: Sequence[gym.Env[np.ndarray, np.ndarray]]) -> np.ndarray:
        observations = [env.reset(seed=copy)[0] for copy, env in enumerate(singles)]
        for action in actions:
            for copy, env in enumerate(singles):
                observations[copy], _, _, over, _ = env.step(action[copy])
        assert over or horizon < FAMILY.horizon, "the last step truncates"
        return np.stack(observations)

    return {
        "batch, no Python between": no_python,
        "batch, a call a step": batch,
        "TaskVectorEnv": vector,
        "loop over gym.make": functools.partial(loop, package),
        "plain loop": functools.partial(loop, plain),
    }


def measure(copies: int, threads: int, horizon: int, rounds: int) -> Rows:
    """Rows of one size, after a check that all ways end in the same states."""
    goals = np.resize(FAMILY.tasks("train"), (copies, 2))
    actions = np.random.default_rng(0).uniform(-REACH, REACH, (horizon, copies, 2)).astype(np.float32).astype(float)
    ways = episodes(goals, actions, threads)
    ends = {name: way() for name, way in ways.items()}
    for name, end in ends.items():
        np.testing.assert_array_equal(end, ends["plain loop"], f"{name} does not end where the plain loop does")
    samples = alternate(ways, rounds, torch.device("cpu"))
    return [
        {
            "copies": copies,
            "threads": threads,
            "stepping": name,
            "steps/s": copies * horizon / statistics.median(seconds),
            "spread %": 100 * spread(seconds),
            "% of no Python": 100 / speed_up(seconds, samples["batch, no Python between"]),
            "aim": ">= 90" if name == "batch, a call a step" else "",
            "times a plain loop": speed_up(samples["plain loop"], seconds),
        }
        for name, seconds in samples.items()
    ]


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser("python -m benchmarks.environments", description=__doc__)
    parser.add_argument("--copies", nargs="+", type=int, default=[10, 80], help="(default: %(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="MuJoCo's (default: %(default)s)")
    parser.add_argument("--horizon", type=int, default=FAMILY.horizon, help="steps of an episode")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each variant (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    sizes = [(copies, threads) for copies in options.copies for threads in options.threads]
    rows = [row for size in sizes for row in measure(*size, options.horizon, options.rounds)]
    publish("environments", {"Stepping": rows}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
