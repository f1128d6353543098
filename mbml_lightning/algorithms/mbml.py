"""Phase 2: distillation of K teachers into one policy that infers its task (Algorithm 4)."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.optim import Adam

from mbml_lightning.algorithms.algorithm import Algorithm
from mbml_lightning.algorithms.bcq import BCQ
from mbml_lightning.data.checkpoints import check_made_by, read_checkpoint
from mbml_lightning.data.relabelling import Relabelled, Relabeller
from mbml_lightning.nets.bcq import CandidateGenerator, Perturbation, QFunction, clipped_noise
from mbml_lightning.nets.task_encoder import TaskEncoder, product, sample
from mbml_lightning.objectives import distillation
from mbml_lightning.objectives.divergence import kl_to_prior
from mbml_lightning.objectives.hooks import ContextStep, StepHook
from mbml_lightning.policies.bcq import BCQPolicy
from mbml_lightning.types import Gaussian, TaskBatch, Transitions


class Teachers(NamedTuple):
    """The frozen teachers of all tasks: Q_1..Q_K, G_1..G_K, xi_1..xi_K."""

    q: Callable[[Tensor, Tensor], Tensor]
    generator: CandidateGenerator
    perturbation: Perturbation


class MBML(Algorithm):
    """One Q_D, G_D, xi_D for all tasks and the encoder q_phi that tells them apart.

    Args:
        distribution: Name of the task distribution.
        teachers: Checkpoint of the trained `BCQ`.
        relabeller: Gives contexts other tasks' rewards; None for *Neither*.
        hooks: Further losses by name, the triplet among them.
        num_tasks: K, if fewer than all official training tasks.
        encoder_hidden: Hidden layers of the encoder.
        q_hidden: Hidden layers of Q_D.
        generator_hidden: Hidden layers of G_D.
        perturbation_hidden: Hidden layers of xi_D.
        z_dim: Dimensions of the task identity.
        lr: Learning rate of Adam.
        batch_size: Transitions a task and update.
        context_size: Context rows a task and update.
        kl_weight: beta of Eq. 3.
        kl_mean_over_tasks: Average KL(q(c_i) || N(0, I)) over tasks (Eq. 3) instead of summing it (official code).
        combine: Infer z from own and relabelled rows together, 2C rows, instead of C rows drawn from either.
        standardise_context: Give the encoder inputs of mean 0 and deviation 1; without it, differences of rewards can
            be small beside those of states, and the triplet takes longer to leave its margin.
        phi: Largest perturbation of an action.
        candidates: Candidate actions when acting.
        updates_per_block: Gradient updates of a Lightning batch.
        seed: Seed of the updates' randomness.
    """

    encoder: TaskEncoder
    stacked = False

    def __init__(
        self,
        distribution: str,
        teachers: str,
        relabeller: Relabeller | None = None,
        hooks: Mapping[str, StepHook] | None = None,
        num_tasks: int | None = None,
        encoder_hidden: Sequence[int] = (200, 200, 200),
        q_hidden: Sequence[int] = (1024,) * 9,
        generator_hidden: Sequence[int] = (1024,) * 7,
        perturbation_hidden: Sequence[int] = (1024,) * 8,
        z_dim: int = 20,
        lr: float = 3e-4,
        batch_size: int = 128,
        context_size: int = 64,
        kl_weight: float = 0.1,
        kl_mean_over_tasks: bool = False,
        combine: bool = True,
        standardise_context: bool = False,
        phi: float = 0.05,
        candidates: int = 10,
        updates_per_block: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters(ignore=["relabeller", "hooks"])
        self.teacher_checkpoint, self.relabeller = teachers, relabeller
        self.lr, self.batch_size, self.context_size = lr, batch_size, context_size
        self.kl_weight, self.kl_mean_over_tasks, self.combine = kl_weight, kl_mean_over_tasks, combine
        self.standardise_context = standardise_context
        self.phi, self.candidates = phi, candidates
        dims = (self.family.observation_dim, self.family.action_dim)
        self.encoder = TaskEncoder(*dims, z_dim, encoder_hidden)
        self.q = QFunction(*dims, q_hidden, z_dim)
        self.generator = CandidateGenerator(*dims, generator_hidden, z_dim)
        self.perturbation = Perturbation(*dims, perturbation_hidden, z_dim)
        self.hooks = nn.ModuleDict(dict(hooks or {}))

    def configure_optimizers(self) -> Adam:
        """One Adam: the four networks share no parameters, so it makes the updates of four."""
        return self.adam(self.lr, self.encoder, self.q, self.generator, self.perturbation, self.hooks)

    def on_fit_start(self) -> None:
        """Load the teachers and what relabelling needs, which only training uses."""
        super().on_fit_start()
        rows = self.trainer.datamodule.rows  # type: ignore[attr-defined]
        if self.standardise_context:
            self.encoder.standardise(rows.unpack(rows.packed))
        self.teachers = load_teachers(self.teacher_checkpoint, self.family.name, self.device)
        if self.relabeller is not None:
            self.relabeller.prepare(rows, self.family.name)

    def update(self, batch: TaskBatch) -> dict[str, Tensor]:
        """One step on L = L_triplet + L_Q + L_G + L_xi (Eq. 10)."""
        step, logged = self.infer(batch)
        losses = self.distil(batch.transitions, sample(step.posterior))
        divergence = kl_to_prior(step.posterior)
        losses["kl_loss"] = self.kl_weight * (divergence.mean() if self.kl_mean_over_tasks else divergence.sum())
        losses |= {f"{name}_loss": hook(step) for name, hook in self.hooks.items()}
        self.step(self.optimizer_list()[0], torch.stack(list(losses.values())).sum())
        return losses | logged

    def infer(self, batch: TaskBatch) -> tuple[ContextStep, dict[str, Tensor]]:
        """Encode own and relabelled rows once and pool them (Algorithm 4, lines 3 to 12)."""
        assert batch.contexts is not None and batch.context_index is not None
        if self.relabeller is None:
            own = self.encoder(batch.contexts)
            return ContextStep(own, None, None, product(own)), {}
        relabelled = self.relabeller(batch.contexts, batch.context_index)
        kept = relabelled.kept
        factors = self.encoder(under_every_task(batch.contexts, relabelled))
        own = Gaussian(*(x.diagonal().movedim(-1, 0) for x in factors))
        pairs = max(kept[..., 0].numel() - len(kept), 1)
        logged = {"kept_fraction": kept.sum() / (pairs * kept.shape[-1])}
        return ContextStep(own, factors, kept, self.posterior(factors, kept)), logged

    def posterior(self, factors: Gaussian, kept: Bool[Tensor, "K K C"]) -> Gaussian:
        """q(z | {c_i, c~_i}), c~_i up to C relabelled rows drawn from all that were kept (Algorithm 4, line 6)."""
        own = torch.eye(len(kept), dtype=torch.bool, device=kept.device).unsqueeze(-1).expand_as(kept)
        pool = (kept if self.combine else kept | own).flatten(1)
        drawn = draw_rows(pool, kept.shape[-1])
        mask = drawn | own.flatten(1) if self.combine else drawn
        return product(Gaussian(*(x.flatten(1, 2) for x in factors)), mask)

    def distil(self, t: Transitions, z: Float[Tensor, "K Z"]) -> dict[str, Tensor]:
        """L_Q, L_G and L_xi (Eq. 3 to 5); the encoder learns from L_Q only."""
        s, a, fixed_z = t.observations, t.actions, z.detach().unsqueeze(1).expand(-1, t.rewards.shape[1], -1)
        with torch.no_grad():
            nu = clipped_noise(torch.randn(*s.shape[:-1], self.generator.latent_dim, device=s.device))
            teacher_a = self.teachers.generator(s, nu)
            teacher_xi = self.teachers.perturbation(s, teacher_a)
            teacher_q = self.teachers.q(s, a)
        z_rows = z.unsqueeze(1).expand_as(fixed_z)
        return {
            "q_loss": distillation.value_distillation(self.q(s, a, z_rows), teacher_q),
            "candidate_loss": distillation.candidate_distillation(self.generator(s, nu, fixed_z), teacher_a),
            "perturbation_loss": distillation.perturbation_distillation(
                self.perturbation(s, teacher_a, fixed_z), teacher_xi
            ),
        }

    def policy(self) -> BCQPolicy:
        """Acts for any task, given z."""
        return BCQPolicy(self.generator, self.perturbation, self.q, self.candidates, self.phi)


def under_every_task(contexts: Transitions, relabelled: Relabelled) -> Transitions:
    """Contexts c_j as every task i relabels them, ``(K, K, C)``; what it leaves alone is not copied."""
    k = len(relabelled.rewards)
    s, a, _, next_s, termination = (x.expand(k, *x.shape) for x in contexts)
    changed = relabelled.next_observations
    return Transitions(s, a, relabelled.rewards, next_s if changed is None else changed, termination)


def draw_rows(pool: Bool[Tensor, "K P"], count: int) -> Bool[Tensor, "K P"]:
    """``count`` rows of each pool without replacement, or all of them where there are fewer."""
    priority = torch.rand(pool.shape, device=pool.device).masked_fill(~pool, -1.0)
    chosen = priority.topk(count, -1).indices
    return torch.zeros_like(pool).scatter(-1, chosen, True) & pool


def load_teachers(checkpoint: str, distribution: str, device: torch.device) -> Teachers:
    """The teachers of a `BCQ` checkpoint, frozen; values are those of the first critic.

    Raises:
        CheckpointError: If the checkpoint is of another method or distribution.
    """
    content = read_checkpoint(checkpoint)
    check_made_by(content, method="BCQ", distribution=distribution)
    hyper_parameters = content["hyper_parameters"].items()
    bcq = BCQ(**{name: value for name, value in hyper_parameters if not name.startswith("_")})  # Lightning's own
    bcq.load_state_dict(content["state_dict"])
    bcq = bcq.requires_grad_(False).to(device)
    return Teachers(bcq.first_q, bcq.generator, bcq.perturbation)
