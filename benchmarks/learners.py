"""The package's methods outside a Trainer's loop, on synthetic transitions, and the size of their matrix products."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from omegaconf import OmegaConf

from mbml_lightning import envs
from mbml_lightning.algorithms import (
    BCQ,
    MBML,
    PEARL,
    SAC,
    Algorithm,
    ContextualBCQ,
    MultiTaskBC,
    TransitionEnsemble,
)
from mbml_lightning.algorithms.mbml import load_teachers
from mbml_lightning.cli.configuration import Scale
from mbml_lightning.data.relabelling import EnsembleRelabeller, Relabeller, ensemble_prediction
from mbml_lightning.data.rows import Rows
from mbml_lightning.envs.random_physics import RandomPhysics
from mbml_lightning.objectives.focal import FOCAL
from mbml_lightning.objectives.hard_mining import HardMiningTriplet
from mbml_lightning.objectives.triplet import RelabelledTriplet
from mbml_lightning.types import TaskBatch

CONF = Path(__file__).parents[1] / "conf"
KEPT = 0.8
"""Share of relabelled rows that the threshold lets pass, about that of the paper's distributions."""


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


def load_scale(name: str) -> Scale:
    """Sizes of ``conf/scale``, with the budgets of UmazeGoal-M where they are the task's."""
    task: Any = OmegaConf.load(CONF / "task/umaze_goal_m.yaml")
    budgets = {budget: task[budget] for budget in ("interactions", "collection_steps", "bcq_updates")}
    sizes: Any = OmegaConf.to_container(OmegaConf.load(CONF / f"scale/{name}.yaml"))
    return Scale(**budgets | sizes)


def make(phase: str, distribution: str, num_tasks: int | None, scale: Scale, device: torch.device) -> Learner:
    """The method of a phase at a scale, with an optimiser step's every part in place."""
    torch.manual_seed(0)
    rows = synthetic_rows(distribution, num_tasks, scale.interactions, device)
    algorithm, widest = PHASES[phase](distribution, num_tasks, scale, rows)
    attach(algorithm.to(device))
    generator = torch.Generator(device).manual_seed(0)
    batches = [rows.draw(generator, algorithm.batch_size, algorithm.context_rows) for _ in range(2)]
    return Learner(algorithm, rows, batches, widest)


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


def _sac(distribution: str, num_tasks: int | None, scale: Scale, rows: Rows) -> tuple[Algorithm, tuple[int, ...]]:
    sac = SAC(distribution, num_tasks, scale.sac_actor_hidden, scale.sac_hidden, batch_size=scale.sac_batch_size)
    return sac, (2 * sac.num_tasks, sac.batch_size, scale.sac_hidden[-2], scale.sac_hidden[-1])


def _bcq(distribution: str, num_tasks: int | None, scale: Scale, rows: Rows) -> tuple[Algorithm, tuple[int, ...]]:
    bcq = BCQ(distribution, num_tasks, scale.bcq_hidden, scale.vae_hidden)
    return bcq, (
        bcq.num_tasks,
        bcq.batch_size * bcq.networks.options.candidates,
        scale.vae_hidden[-2],
        scale.vae_hidden[-1],
    )


def _ensemble(distribution: str, num_tasks: int | None, scale: Scale, rows: Rows) -> tuple[Algorithm, tuple[int, ...]]:
    ensemble = TransitionEnsemble(distribution, num_tasks)
    members, inputs, outputs = ensemble.ensemble.weights[0].flatten(0, -3).shape
    return ensemble, (members, ensemble.batch_size, inputs, outputs)


def _mbml(distribution: str, num_tasks: int | None, scale: Scale, rows: Rows) -> tuple[Algorithm, tuple[int, ...]]:
    mbml = students(distribution, num_tasks, scale, rows, ["mbml"])["mbml"]
    return mbml, (1, mbml.num_tasks * mbml.batch_size, scale.q_hidden[-2], scale.q_hidden[-1])


def students(
    distribution: str, num_tasks: int | None, scale: Scale, rows: Rows, methods: Sequence[str]
) -> dict[str, Algorithm]:
    """Methods that infer their task; teachers and ensembles are untrained, for an update costs the same."""
    with tempfile.TemporaryDirectory() as folder:
        teachers = _checkpoint(BCQ(distribution, num_tasks, scale.bcq_hidden, scale.vae_hidden), folder)
        relabeller = EnsembleRelabeller(*_ensembles(distribution, num_tasks, scale, rows, folder))
        relabeller.prepare(rows, distribution)
        made = {name: _student(name, distribution, num_tasks, scale, teachers, relabeller) for name in methods}
        for student in made.values():
            if isinstance(student, MBML):
                student.teachers, _ = load_teachers(teachers, distribution, rows)
    return made


def _student(
    name: str, distribution: str, num_tasks: int | None, scale: Scale, teachers: str, relabeller: Relabeller
) -> Algorithm:
    """As its file in ``conf`` has it."""
    rows = scale.context_size
    shared: dict[str, Any] = {"num_tasks": num_tasks, "encoder_hidden": scale.encoder_hidden, "context_size": 2 * rows}
    relabels = {"relabeller": relabeller, "context_size": rows}
    networks = scale.q_hidden, scale.generator_hidden, scale.perturbation_hidden
    distilled: dict[str, dict[str, Any]] = {
        "mbml": {**relabels, "hooks": {"triplet": RelabelledTriplet()}},
        "no_relabelling": {"hooks": {"triplet": HardMiningTriplet()}, "context_sets": 10},
        "no_triplet": relabels,
        "neither": {},
        "focal": {"hooks": {"focal": FOCAL()}, "context_sets": 2},
    }
    batch = scale.mbml_batch_size
    if name in distilled:
        return MBML(distribution, teachers, *networks, batch_size=batch, **shared | distilled[name])
    if name == "contextual_bcq":
        return ContextualBCQ(distribution, *networks, batch_size=batch, **shared)
    if name == "multi_task_bc":
        return MultiTaskBC(distribution, scale.generator_hidden, batch_size=batch, **shared)
    return PEARL(distribution, scale.pearl_hidden, batch_size=2 * batch, **shared)


STUDENTS = ("mbml", "no_relabelling", "no_triplet", "neither", "focal", "contextual_bcq", "pearl", "multi_task_bc")


def _ensembles(distribution: str, num_tasks: int | None, scale: Scale, rows: Rows, folder: str) -> list[Any]:
    """Checkpoints and thresholds of what relabelling needs."""
    ensembles = [TransitionEnsemble(distribution, num_tasks)]
    if isinstance(envs.distribution(distribution), RandomPhysics):
        hidden = scale.next_state_hidden
        ensembles.append(TransitionEnsemble(distribution, num_tasks, "next_observations", hidden=hidden))
    return [x for ensemble in ensembles for x in (_checkpoint(ensemble, folder), _threshold(ensemble, rows))]


def _checkpoint(algorithm: Algorithm, folder: str) -> str:
    path = f"{folder}/{type(algorithm).__name__}-{getattr(algorithm, 'target', '')}.ckpt"
    checkpoint: dict[str, Any] = {"state_dict": algorithm.state_dict(), "hyper_parameters": dict(algorithm.hparams)}
    attach(algorithm)
    algorithm.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path


@torch.no_grad()
def _threshold(ensemble: TransitionEnsemble, rows: Rows) -> float:
    t = rows.unpack(rows.packed[0, :1000].cpu())
    return ensemble_prediction(ensemble.ensemble, t.observations, t.actions)[1].quantile(KEPT).item()


PHASES: dict[str, Callable[..., Any]] = {"sac": _sac, "bcq": _bcq, "ensemble": _ensemble, "mbml": _mbml}
