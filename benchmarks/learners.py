"""The package's methods outside a Trainer's loop, on synthetic transitions, and the size of their matrix products."""

import contextlib
import io
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc import locate
from typing import Any

import lightning as L
import torch
import yaml
from omegaconf import OmegaConf

from mbml_lightning import envs
from mbml_lightning.algorithms import BCQ, MBML, SAC, Algorithm, TransitionEnsemble
from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.algorithms.mbml import load_teachers
from mbml_lightning.cli.configuration import LaptopSpec, Scale
from mbml_lightning.cli.main import main
from mbml_lightning.data.relabelling import ensemble_prediction
from mbml_lightning.data.rows import Rows
from mbml_lightning.envs.random_physics import RandomPhysics
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.results.methods import METHODS
from mbml_lightning.types import TaskBatch

CONF = Path(__file__).parents[1] / "conf"
KEPT = 0.8
"""Share of relabelled rows that the threshold lets pass, about that of the paper's distributions."""
PHASES = {"sac": "sac", "bcq": "bcq", "ensemble": "reward_ensemble", "mbml": "mbml"}
"""Names of the measured phases, and their methods."""
STUDENTS = [
    name
    for name, method in METHODS.items()
    if method.kind in ("method", "ablation") and method.physics == "all" and method.figures != (11,)
]
"""Methods that infer their task; margins differ in a number only."""


@dataclass
class Learner:
    """A method ready to make updates.

    Args:
        algorithm: The method.
        rows: What it learns from.
        batches: Batches drawn from the rows.
        widest: Networks, rows, inputs and outputs of the matrix products in which most of an update's time goes.
    """

    algorithm: Algorithm
    rows: Rows
    batches: list[TaskBatch]
    widest: tuple[int, int, int, int]


def load_scale(name: str, task_file: str = "umaze_goal_m") -> Scale:
    """Sizes of ``conf/scale``, with the budgets of a file of ``conf/task`` where they are the task's."""
    task = OmegaConf.merge({"laptop": asdict(LaptopSpec())}, OmegaConf.load(CONF / f"task/{task_file}.yaml"))
    budgets = {budget: task[budget] for budget in ("interactions", "collection_steps", "bcq_updates", "distribution")}
    both = OmegaConf.create({"task": task, "scale": OmegaConf.load(CONF / f"scale/{name}.yaml")})
    sizes: Any = OmegaConf.to_container(both.scale, resolve=True)
    return Scale(**budgets | sizes)


def make(phase: str, distribution: str, num_tasks: int | None, scale: Scale, device: torch.device) -> Learner:
    """The method of a phase at a scale, with an optimiser step's every part in place."""
    torch.manual_seed(0)
    rows = synthetic_rows(distribution, num_tasks, scale.interactions, device)
    (algorithm,) = learners(distribution, num_tasks, scale, rows, [PHASES[phase]]).values()
    attach(algorithm.to(device))
    generator = torch.Generator(device).manual_seed(0)
    batches = [rows.draw(generator, algorithm.batch_size, algorithm.context_rows) for _ in range(2)]
    return Learner(algorithm, rows, batches, _widest(algorithm, scale))


def _widest(algorithm: Algorithm, scale: Scale) -> tuple[int, int, int, int]:
    k, batch = algorithm.num_tasks, algorithm.batch_size
    if isinstance(algorithm, SAC):
        return 2 * k, batch, scale.sac_hidden[-2], scale.sac_hidden[-1]
    if isinstance(algorithm, BCQ):
        return k, batch * algorithm.networks.options.candidates, scale.vae_hidden[-2], scale.vae_hidden[-1]
    if isinstance(algorithm, TransitionEnsemble):
        members, inputs, outputs = algorithm.ensemble.weights[0].flatten(0, -3).shape
        return members, batch, inputs, outputs
    return 1, k * batch, scale.q_hidden[-2], scale.q_hidden[-1]


def synthetic_rows(distribution: str, num_tasks: int | None, count: int, device: torch.device) -> Rows:
    """Normal numbers in the place of transitions; nobody terminates."""
    family = envs.distribution(distribution)
    tasks = len(family.tasks("train")[:num_tasks])
    rows = Rows.empty(tasks, count, family.observation_dim, family.action_dim)
    rows.packed.normal_()
    rows.packed[..., -1] = 0
    rows.packed[..., family.observation_dim : -family.observation_dim - 2].tanh_()
    return Rows(rows.packed.to(device), family.observation_dim, family.action_dim, count)


def attach(algorithm: Algorithm) -> None:
    """Give a method the Trainer and the optimisers that its update asks for, without running the Trainer's loop."""
    trainer = L.Trainer(
        accelerator="cpu",
        max_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.strategy.connect(algorithm)
    algorithm.trainer = trainer
    made: Any = algorithm.configure_optimizers()
    trainer.strategy.optimizers = made if isinstance(made, list) else [made]
    if algorithm.device.type == "cuda":  # so that a CUDA graph may hold the step
        for optimizer in trainer.strategy.optimizers:
            for group in optimizer.param_groups:
                group["capturable"] = True


def learners(
    distribution: str, num_tasks: int | None, scale: Scale, rows: Rows, methods: Sequence[str]
) -> dict[str, Algorithm]:
    """Methods as configured; teachers and ensembles are untrained, for an update costs the same."""
    with tempfile.TemporaryDirectory() as experiment:
        words = [f"--task.distribution={distribution}", f"--scale={CONF}/scale/{scale.name}.yaml"]
        words += [f"--experiment={experiment}", *([] if num_tasks is None else [f"--model.num_tasks={num_tasks}"])]
        needed = {need for name in methods for need in METHODS[name].needs if need != "sac"}
        if not isinstance(envs.distribution(distribution), RandomPhysics):
            needed.discard("next_state_ensemble")
        thresholds = []
        for name in sorted(needed):
            before = configured(name, words)
            _save(before, Path(experiment, name, "seed-0/last.ckpt"))
            if isinstance(before, TransitionEnsemble):
                task = "relabel" if before.target == "rewards" else "next_state"
                thresholds.append(f"--task.{task}_threshold={_threshold(before, rows)}")
        made = {name: configured(name, [*words, *thresholds]) for name in methods}
        for method in made.values():
            if isinstance(method, ContextualAlgorithm) and method.relabeller is not None:
                method.relabeller.prepare(rows, distribution)
            if isinstance(method, MBML):
                teachers = Checkpoint.read(f"{experiment}/bcq/seed-0/last.ckpt")
                method.teachers = load_teachers(teachers, distribution, rows)
    return made


def configured(name: str, words: Sequence[str]) -> Algorithm:
    """A method with the arguments that its files in ``conf`` and words of the command line give it."""
    command = METHODS[name].command.replace("conf/", f"{CONF}/").split()
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
        main([*command, "--task", f"{CONF}/task/umaze_goal_m.yaml", *words, "--print_config=resolved"])
    made = _made(yaml.safe_load(printed.getvalue())["model"])
    assert isinstance(made, Algorithm)
    return made


def _made(content: Any) -> Any:
    """Objects in the place of class paths and arguments."""
    if isinstance(content, dict) and "class_path" in content:
        made: Any = locate(content["class_path"])
        return made(**_made(content.get("init_args", {})))
    return {name: _made(value) for name, value in content.items()} if isinstance(content, dict) else content


def _save(algorithm: Algorithm, path: Path) -> None:
    path.parent.mkdir(parents=True)
    checkpoint: dict[str, Any] = {"state_dict": algorithm.state_dict(), "hyper_parameters": dict(algorithm.hparams)}
    attach(algorithm)
    algorithm.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)


@torch.no_grad()
def _threshold(ensemble: TransitionEnsemble, rows: Rows) -> float:
    t = rows.unpack(rows.packed[0, :1000].cpu())
    return ensemble_prediction(ensemble.ensemble, t.observations, t.actions)[1].quantile(KEPT).item()
