"""Phase 2: distillation of K teachers into one policy that infers its task (Algorithm 4)."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms.bcq import load_bcq
from mbml_lightning.algorithms.contextual import ContextualAlgorithm
from mbml_lightning.arguments import PositiveFloat, PositiveInt, UnitInterval
from mbml_lightning.data.rows import Rows
from mbml_lightning.errors import CheckpointError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.nets.heads import CandidateGenerator, Perturbation, QFunction, clipped_noise
from mbml_lightning.nets.standardiser import Standardiser
from mbml_lightning.objectives import distillation
from mbml_lightning.objectives.hooks import ContextStep
from mbml_lightning.policies.bcq import BCQPolicy
from mbml_lightning.training.algorithm import total
from mbml_lightning.types import TaskBatch, Transitions

SOME = 10_000
"""Transitions of a task over which its values are standardised."""


class Teachers(NamedTuple):
    """The frozen teachers of all tasks (a tuple, so that the student's weights do not hold theirs).

    Attributes:
        q: Values Q_1..Q_K of the first critics.
        generator: Candidates G_1..G_K.
        perturbation: Corrections xi_1..xi_K.
        inputs: What they see of states.
    """

    q: Callable[[Tensor, Tensor], Tensor]
    generator: CandidateGenerator
    perturbation: Perturbation
    inputs: nn.Module = nn.Identity()

    @torch.no_grad()
    def values(self, t: Transitions) -> Float[Tensor, "K B 1"]:
        """Values of transitions by their own task's teacher."""
        return self.q(self.inputs(t.observations), t.actions).unsqueeze(-1)


class MBML(ContextualAlgorithm):
    """One student Q_D, G_D, xi_D for all tasks, and the encoder q_phi that tells the tasks apart.

    Without a relabeller and hooks it is *Neither*; with one of the two, *No triplet* or *No relabelling*.

    Args:
        distribution: Name of the task distribution.
        teachers: Checkpoint of the trained `BCQ`.
        q_hidden: Hidden layers of Q_D.
        generator_hidden: Hidden layers of G_D.
        perturbation_hidden: Hidden layers of xi_D.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        phi: Largest perturbation of an action.
        candidates: Candidate actions when acting.
        standardise_values: Give Q_D the values of each teacher shifted and scaled to mean 0 and deviation 1 over its
            task's transitions, so that their choice among candidates is no small part of them; no argmax sees it.
        inference: As for `ContextualAlgorithm`.
    """

    def __init__(
        self,
        distribution: str,
        teachers: str,
        q_hidden: Sequence[PositiveInt] = (1024,) * 9,
        generator_hidden: Sequence[PositiveInt] = (1024,) * 7,
        perturbation_hidden: Sequence[PositiveInt] = (1024,) * 8,
        lr: PositiveFloat = 3e-4,
        batch_size: PositiveInt = 128,
        phi: UnitInterval = 0.05,
        candidates: PositiveInt = 10,
        standardise_values: bool = False,
        **inference: Any,
    ) -> None:
        super().__init__(distribution, **inference)
        self.teacher_checkpoint = teachers
        self.lr, self.batch_size, self.phi, self.candidates = lr, batch_size, phi, candidates
        self.values: nn.Module = Standardiser(1, (self.num_tasks,)) if standardise_values else nn.Identity()
        self.q = QFunction(*self.dims, q_hidden, self.encoder.z_dim)
        self.generator = CandidateGenerator(*self.dims, generator_hidden, self.encoder.z_dim)
        self.perturbation = Perturbation(*self.dims, perturbation_hidden, self.encoder.z_dim)

    def configure_optimizers(self) -> Adam:
        """Make one Adam: the four networks share no parameters, so it makes the updates of four."""
        return self.adam(self.lr, self.encoder, self.q, self.generator, self.perturbation, self.hooks)

    def on_fit_start(self) -> None:
        """Load the teachers; Lightning calls this before the first update, and not when it only validates."""
        checkpoint = Checkpoint.read(self.teacher_checkpoint)
        self.teachers = load_teachers(checkpoint, self.distribution.name, self.rows)
        self.learned_from("teachers", checkpoint)
        super().on_fit_start()
        if isinstance(self.values, Standardiser):
            some = self.rows.packed[:, :: -(-self.rows.count // SOME)]
            self.values.follow(self.teachers.values(self.rows.unpack(some)))

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """Make one step on L_triplet + L_Q + L_G + L_xi; beta KL is a part of L_Q (Algorithm 4; Eq. 10)."""
        relabelled = self.relabel(batch)  # lines 4 and 5: c_{j->i}, by the reward ensemble of task i (Algorithm 3)
        step = self.infer(batch, relabelled)  # lines 6 and 11 to 13: z_i ~ q(z | {c_i, c~_i})
        losses = self.distil(batch.transitions, step)  # lines 15 to 17 (Eq. 3 to 5)
        losses = self.with_encoder_losses(losses, step)  # lines 7 to 10: triplet hook (Eq. 8 and 9); KL (Eq. 3)
        self.step(self.optimizer_list()[0], total(losses))
        return self.logged(losses, step)

    def distil(self, t: Transitions, step: ContextStep) -> dict[str, Tensor]:
        """Losses against the teachers: that of values (Eq. 3, first term), L_G (Eq. 4) and L_xi (Eq. 5)."""
        a, z = t.actions, step.z_of_rows(t.rewards.shape[1])
        fixed_z = z.detach()  # only values teach the encoder
        with torch.no_grad():
            s = self.teachers.inputs(t.observations)
            nu = clipped_noise(self.randn(*s.shape[:-1], self.generator.latent_dim))
            teacher_a = self.teachers.generator(s, nu)
            teacher_xi = self.teachers.perturbation(s, teacher_a)
            teacher_q = self.values(self.teachers.values(t)).squeeze(-1)
        s = self.inputs(t.observations)
        return {
            "q_loss": distillation.value_distillation(self.q(s, a, z), teacher_q),
            "candidate_loss": distillation.candidate_distillation(self.generator(s, nu, fixed_z), teacher_a),
            "perturbation_loss": distillation.perturbation_distillation(
                self.perturbation(s, teacher_a, fixed_z), teacher_xi
            ),
        }

    def policy(self) -> BCQPolicy:
        """The policy that acts for any task, given z."""
        return BCQPolicy(self.generator, self.perturbation, self.q, self.candidates, self.phi, self.inputs)


def load_teachers(checkpoint: Checkpoint, distribution: str, rows: Rows) -> Teachers:
    """Load the frozen teachers of a `BCQ`; values are those of the first critic.

    Raises:
        CheckpointError: If the checkpoint is of another method, distribution, store or number of tasks.
    """
    bcq = load_bcq(checkpoint, distribution)
    checkpoint.check_data(rows.digest)
    if bcq.num_tasks != (asked := len(rows.packed)):
        found = f"{checkpoint.path}: teaches {bcq.num_tasks} tasks"
        raise CheckpointError(
            f"{found}, {asked} are learned: set model.num_tasks to {bcq.num_tasks}, or train them too"
        )
    nets = bcq.to(rows.packed.device).networks
    return Teachers(partial(nets.q, member=0), nets.generator, nets.perturbation, bcq.inputs)
