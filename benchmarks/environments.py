"""Steps a second: ours, MuJoCo's batch with little and with no Python between, and Gymnasium's own environments.

All ways take random actions, and robots that fall start anew. Gymnasium's robots take as many physics steps in a
control step as ours (Walker2d-v5 shorter ones than WalkerParam). What MuJoCo alone can do is measured on what ours
went through: it is recorded, cut where episodes end and into pieces that threads share evenly, and replayed from the
recorded starts with the recorded controls, so that the limit meets the same contacts, bit for bit, but pays for no
reset, observation or reward.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import mujoco
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from benchmarks.measuring import Rows, alternate, publish, speed_up, spread
from mbml_lightning import envs
from mbml_lightning.envs.maze import MAX_SPEED, UMAZE, maze_model
from mbml_lightning.envs.mujoco_base import MujocoSimulation

LIMIT, BATCH, OURS = "batch, no Python between", "batch, a call a step", "TaskVectorEnv"
LOOP, SYNC = "Gymnasium, one in a loop", "Gymnasium, SyncVectorEnv of 10"
SYNC_COPIES = 10
LONGEST_PIECE = 32
"""Control steps that are replayed at a stretch."""


class Plain(NamedTuple):
    """The plain environment beside a distribution.

    Attributes:
        env_id: Gymnasium's, or None for the maze below.
        alike: Its observations begin with as many numbers of ours, if it is given the same seeds and actions.
        actions: The range of the random actions.
    """

    env_id: str | None
    alike: int
    actions: float = 1.0


PLAIN = {
    "AntDir": Plain("Ant-v5", 27),
    "HalfCheetahVel": Plain("HalfCheetah-v5", 17),
    "HumanoidDirM": Plain("Humanoid-v5", 45),
    "WalkerParam": Plain("Walker2d-v5", 0),
    "HopperParam": Plain("Hopper-v5", 0),
    "UmazeGoalM": Plain(None, 4, 0.5),  # so small that no particle reaches MAX_SPEED, whose cut MuJoCo knows not
}


class PlainMaze(gym.Env[np.ndarray, np.ndarray]):
    """UmazeGoal-M as Gymnasium's own MuJoCo environments are written."""

    frame_skip = 1

    def __init__(self) -> None:
        family = envs.distribution("UmazeGoalM")
        self.model, self.goal, self.horizon = maze_model(), family.tasks("train")[0], family.horizon
        self.data = mujoco.MjData(self.model)
        self.observation_space, self.action_space = family.observation_space, family.action_space

    def observe(self) -> np.ndarray:
        """Position and speed."""
        return np.concatenate([self.data.qpos, self.data.qvel]).astype(np.float32)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Near the start, nearly at rest."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self.model, self.data)
        self.data.qpos[:] = UMAZE.start + self.np_random.uniform(-0.1, 0.1, size=2)
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


def plain_env(name: str) -> gym.Env[np.ndarray, np.ndarray]:
    """The plain environment beside the distribution ``name``, with its horizon."""
    env_id = PLAIN[name].env_id
    if env_id is None:
        return PlainMaze()
    mujoco.set_mju_user_warning(lambda message: None)  # of the cheetah's file, which asks for what is deprecated
    env = gym.make(env_id, max_episode_steps=envs.distribution(name).horizon, disable_env_checker=True)
    mujoco.set_mju_user_warning(None)
    return env


@dataclass(frozen=True)
class Pieces:
    """What n copies went through in T steps, as m pieces without a reset.

    Attributes:
        copies: Which copy, ``(m,)``.
        first: The step with which it begins, ``(m,)``.
        lengths: Its steps, at most LONGEST_PIECE, ``(m,)``.
        starts: MuJoCo's state before it, ``(m, X)``.
        ends: MuJoCo's state after it, ``(m, X)``.
        observations: After the last step, and after the resets it calls for, ``(n, S)``.
    """

    copies: np.ndarray
    first: np.ndarray
    lengths: np.ndarray
    starts: np.ndarray
    ends: np.ndarray
    observations: np.ndarray


def record(env: envs.TaskVectorEnv, actions: np.ndarray) -> Pieces:
    """Take the actions ``(T, n, A)`` in ``env``, whose autoreset is disabled."""
    observations, _ = env.reset(seed=0)
    starts, first = env.get_state()["physics"], np.zeros(env.num_envs, dtype=int)
    pieces = []
    for t, action in enumerate(actions, start=1):
        observations, _, terminations, truncations, _ = env.step(action)
        over, ends = terminations | truncations, env.get_state()["physics"]
        if over.any():
            observations, _ = env.reset(options={"reset_mask": over})
        cut = over | (t - first == LONGEST_PIECE) | (t == len(actions))
        pieces += [(copy, first[copy], t - first[copy], starts[copy], ends[copy]) for copy in np.flatnonzero(cut)]
        starts = np.where(cut[:, None], env.get_state()["physics"], starts)
        first[cut] = t
    return Pieces(*map(np.array, zip(*pieces, strict=True)), observations)


def replay_pieces(
    simulation: MujocoSimulation, pieces: Pieces, controls: np.ndarray, substeps: int
) -> Callable[[], np.ndarray]:
    """A call that replays each piece in a copy of its own, in rollouts as long as powers of two; it returns the ends.

    Args:
        simulation: Of m copies.
        pieces: What is replayed.
        controls: Of all steps, ``(T, n, A)``.
        substeps: Physics steps of a control step.
    """
    rollouts = []
    for bit in reversed(range(LONGEST_PIECE.bit_length())):
        ids = np.flatnonzero(pieces.lengths >> bit & 1)
        done = pieces.lengths[ids] >> bit + 1 << bit + 1  # by the longer rollouts
        steps = (pieces.first[ids] + done)[:, None] + np.arange(2**bit).repeat(substeps)
        rollouts.append((ids, controls[steps, pieces.copies[ids, None]]))

    def replay() -> np.ndarray:
        simulation.batch.state[...] = pieces.starts
        for ids, controls in rollouts:
            simulation.batch.rollout(controls.shape[1], controls, record=(), ids=ids)
        return simulation.batch.state.copy()

    return replay


def replay_steps(
    simulation: MujocoSimulation, pieces: Pieces, controls: np.ndarray, substeps: int
) -> Callable[[], np.ndarray]:
    """A call that replays step by step, all n copies at once; it returns their last states."""
    now = [pieces.first == t for t in range(len(controls))]
    restarts = [(pieces.copies[begun], pieces.starts[begun]) for begun in now]
    batch = simulation.batch
    ctrl = batch.bind("ctrl")

    def replay() -> np.ndarray:
        for (copies, starts), control in zip(restarts, controls, strict=True):
            if len(copies):
                batch.state[copies] = starts
            ctrl[...] = control
            batch.step(nstep=substeps)
        return batch.state.copy()

    return replay


def loop(env: gym.Env[np.ndarray, np.ndarray], actions: np.ndarray) -> np.ndarray:
    """Take the actions ``(T, A)``, with resets; the last observation."""
    observation, _ = env.reset(seed=0)
    for action in actions:
        observation, _, termination, truncation, _ = env.step(action)
        if termination or truncation:
            observation, _ = env.reset()
    return observation


def run(env: gym.vector.VectorEnv[np.ndarray, np.ndarray, np.ndarray], actions: np.ndarray) -> np.ndarray:
    """Take the actions ``(T, n, A)``; the last observations."""
    observations, _ = env.reset(seed=0)
    for action in actions:
        observations, *_ = env.step(action)
    return observations


def ways(name: str, copies: int, threads: int, steps: int) -> dict[str, tuple[int, Callable[[], np.ndarray]]]:
    """Control steps of a call, and the call, for each way of stepping; all were seen to go the same way.

    Args:
        name: Of the distribution.
        copies: Of the batch and of ours.
        threads: MuJoCo's.
        steps: Of each copy.
    """
    family, plain = envs.distribution(name), PLAIN[name]
    tasks = np.resize(family.tasks("train"), (copies, *family.task_shape))
    shape = (steps, max(copies, SYNC_COPIES), family.action_dim)
    actions = np.random.default_rng(0).uniform(-plain.actions, plain.actions, shape)
    pieces = record(envs.TaskVectorEnv(family, tasks, threads, AutoresetMode.DISABLED), actions[:, :copies])
    single, ours = plain_env(name), envs.TaskVectorEnv(family, tasks, threads, AutoresetMode.SAME_STEP)
    sync = SyncVectorEnv([partial(plain_env, name)] * SYNC_COPIES, autoreset_mode=AutoresetMode.SAME_STEP)
    stepwise, piecewise = (family.simulation(tasks[ids], threads) for ids in (np.arange(copies), pieces.copies))
    controls = actions * stepwise.batch.model.actuator_ctrlrange[:, 1]
    substeps = single.unwrapped.frame_skip
    calls = {
        LIMIT: (copies, replay_pieces(piecewise, pieces, controls, substeps)),
        BATCH: (copies, replay_steps(stepwise, pieces, controls[:, :copies], substeps)),
        OURS: (copies, partial(run, ours, actions[:, :copies])),
        LOOP: (1, partial(loop, single, controls[:, 0])),
        SYNC: (SYNC_COPIES, partial(run, sync, controls[:, :SYNC_COPIES])),
    }
    agree(pieces, plain.alike, {stepping: call() for stepping, (_, call) in calls.items()})
    return {stepping: (count * steps, call) for stepping, (count, call) in calls.items()}


def agree(pieces: Pieces, alike: int, ends: dict[str, np.ndarray]) -> None:
    """Refuse ways that did not end where the recorded pieces did; where physics differ, ``alike`` is 0."""
    last = pieces.first + pieces.lengths == (pieces.first + pieces.lengths).max()
    order = np.argsort(pieces.copies[last])
    both = min(SYNC_COPIES, len(pieces.observations))
    observations = pieces.observations[:, :alike]
    for stepping, expected, end in (
        (LIMIT, pieces.ends, ends[LIMIT]),
        (BATCH, pieces.ends[last][order], ends[BATCH]),
        (OURS, pieces.observations, ends[OURS]),
        (LOOP, observations[0], ends[LOOP][:alike]),
        (SYNC, observations[:both], ends[SYNC][:both, :alike]),
    ):
        end = end.astype(expected.dtype)
        np.testing.assert_array_equal(end, expected, f"{stepping} does not end where the recording does")


def measure(name: str, copies: int, threads: int, steps: int, rounds: int) -> Rows:
    """Rows of one distribution and size."""
    calls = ways(name, copies, threads, steps)
    seconds = alternate({stepping: call for stepping, (_, call) in calls.items()}, rounds, torch.device("cpu"))
    samples = {stepping: [s / calls[stepping][0] for s in seconds[stepping]] for stepping in calls}  # of one step
    return [
        {
            "distribution": name,
            "copies": copies,
            "threads": threads,
            "stepping": stepping,
            "steps/s": 1 / statistics.median(sample),
            "spread %": 100 * spread(sample),
            "% of no Python": 100 / speed_up(sample, samples[LIMIT]),
            "times a loop": speed_up(samples[LOOP], sample),
            "aim": aim(copies, threads) if stepping == OURS else "",
        }
        for stepping, sample in samples.items()
    ]


def aim(copies: int, threads: int) -> str:
    """What ours should reach."""
    return ">= 90 %, >= 2 times" if (copies, threads) == (80, 2) else ">= 90 %"


def main(words: Sequence[str]) -> None:
    """Measure and report."""
    description = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser("python -m benchmarks.environments", description=description)
    names = [name for name in PLAIN if name != "HopperParam"]
    parser.add_argument("--distributions", nargs="+", choices=PLAIN, default=names, help="(default: %(default)s)")
    parser.add_argument("--copies", nargs="+", type=int, default=[10, 80], help="(default: %(default)s)")
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2], help="MuJoCo's (default: %(default)s)")
    parser.add_argument("--steps", type=int, help="of each copy in a sample; the horizon if not given")
    parser.add_argument("--rounds", type=int, default=5, help="samples of each variant (default: %(default)s)")
    parser.add_argument("--output", type=Path, help="folder for the report")
    options = parser.parse_args(words)
    rows = [
        row
        for name in options.distributions
        for copies in options.copies
        for threads in options.threads
        for row in measure(name, copies, threads, options.steps or envs.distribution(name).horizon, options.rounds)
    ]
    publish("environments", {"Stepping": rows}, words, options.output)


if __name__ == "__main__":
    main(sys.argv[1:])
