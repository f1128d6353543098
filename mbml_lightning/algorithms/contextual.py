"""What methods that infer their task share: the encoder, relabelled contexts, and hooks on both."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from mbml_lightning.data.relabelling import Relabeller, under_every_task
from mbml_lightning.nets.task_encoder import TaskEncoder, product, sample
from mbml_lightning.objectives.divergence import kl_to_prior
from mbml_lightning.objectives.hooks import ContextStep, StepHook
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.types import Gaussian, TaskBatch, Transitions


class ContextualAlgorithm(Algorithm):
    """One policy for all tasks, given the task identity z that the encoder q_phi infers from a context.

    Args:
        distribution: Name of the task distribution.
        num_tasks: K, if fewer than all official training tasks.
        relabeller: Gives contexts other tasks' rewards; None for none.
        hooks: Further losses of the encoder by name, the triplet among them.
        encoder_hidden: Hidden layers of the encoder.
        z_dim: Dimensions of the task identity.
        context_size: Context rows a task and update (C).
        context_sets: Independent contexts a task and update, which hooks compare; z is inferred from the first.
        kl_weight: beta of Eq. 3.
        kl_mean_over_tasks: Average KL(q(c_i) || N(0, I)) over tasks (Eq. 3) instead of summing it (official code).
        combine: Infer z from own and relabelled rows together, 2C rows, instead of C rows drawn from either.
        standardise_context: Give the encoder inputs of mean 0 and deviation 1; without it, differences of rewards can
            be small beside those of states, and the triplet takes longer to leave its margin.
        updates_per_block: Gradient updates of a Lightning batch.
        seed: Seed of the updates' randomness.
    """

    encoder: TaskEncoder
    stacked = False

    def __init__(
        self,
        distribution: str,
        num_tasks: int | None = None,
        relabeller: Relabeller | None = None,
        hooks: Mapping[str, StepHook] | None = None,
        encoder_hidden: Sequence[int] = (200, 200, 200),
        z_dim: int = 20,
        context_size: int = 64,
        context_sets: int = 1,
        kl_weight: float = 0.1,
        kl_mean_over_tasks: bool = False,
        combine: bool = True,
        standardise_context: bool = False,
        updates_per_block: int = 50,
        seed: int = 0,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters(ignore=["relabeller", "hooks"])
        self.relabeller, self.combine, self.standardise_context = relabeller, combine, standardise_context
        self.context_size, self.context_rows = context_size, context_size * context_sets
        self.kl_weight, self.kl_mean_over_tasks = kl_weight, kl_mean_over_tasks
        self.encoder = TaskEncoder(*self.dims, z_dim, encoder_hidden)
        self.hooks = nn.ModuleDict(dict(hooks or {}))

    def on_fit_start(self) -> None:
        """Load what relabelling needs, which only training uses."""
        super().on_fit_start()
        rows = self.trainer.datamodule.rows  # type: ignore[attr-defined]
        if self.standardise_context:
            self.encoder.standardise(rows.unpack(rows.packed))
        if self.relabeller is not None:
            self.parents |= self.relabeller.prepare(rows, self.family.name)

    def infer(self, batch: TaskBatch) -> tuple[ContextStep, dict[str, Tensor]]:
        """Encode own and relabelled rows once and pool them (Algorithm 4, lines 3 to 12)."""
        assert batch.contexts is not None and batch.context_index is not None
        first, index = _rows(batch.contexts, slice(self.context_size)), batch.context_index[:, : self.context_size]
        if self.relabeller is None:
            own = self.encoder(first)
            return ContextStep(own, None, None, product(own), self.sets(own, batch.contexts)), {}
        relabelled = self.relabeller(first, index)
        kept = relabelled.kept
        factors = self.encoder(under_every_task(first, relabelled))
        own = Gaussian(*(x.diagonal().movedim(-1, 0) for x in factors))
        pairs = max(kept[..., 0].numel() - len(kept), 1)
        logged = {"kept_fraction": kept.sum() / (pairs * kept.shape[-1])}
        posterior = self.posterior(factors, kept)
        return ContextStep(own, factors, kept, posterior, self.sets(own, batch.contexts)), logged

    def posterior(self, factors: Gaussian, kept: Bool[Tensor, "K K C"]) -> Gaussian:
        """q(z | {c_i, c~_i}), c~_i up to C relabelled rows drawn from all that were kept (Algorithm 4, line 6)."""
        own = torch.eye(len(kept), dtype=torch.bool, device=kept.device).unsqueeze(-1).expand_as(kept)
        pool = (kept if self.combine else kept | own).flatten(1)
        drawn = draw_rows(pool, kept.shape[-1])
        mask = drawn | own.flatten(1) if self.combine else drawn
        return product(Gaussian(*(x.flatten(1, 2) for x in factors)), mask)

    def sets(self, own: Gaussian, contexts: Transitions) -> Gaussian | None:
        """Posteriors of all contexts of each task, ``(K, N, Z)``; the rows of the first are encoded already."""
        if self.context_rows == self.context_size:
            return None
        others = self.encoder(_rows(contexts, slice(self.context_size, None)))
        rows = (torch.cat(x, 1).unflatten(1, (-1, self.context_size)) for x in zip(own, others, strict=True))
        return product(Gaussian(*rows))

    def inference_losses(self, step: ContextStep) -> dict[str, Tensor]:
        """What the encoder learns from beside the method's own loss: beta KL(q || N(0, I)), and the hooks."""
        divergence = kl_to_prior(step.posterior)
        losses = {"kl_loss": self.kl_weight * (divergence.mean() if self.kl_mean_over_tasks else divergence.sum())}
        return losses | {f"{name}_loss": hook(step) for name, hook in self.hooks.items()}


def sample_rows(posterior: Gaussian, rows: int) -> Float[Tensor, "K B Z"]:
    """One reparametrised z of each task, repeated for its transitions."""
    return sample(posterior).unsqueeze(1).expand(-1, rows, -1)


def draw_rows(pool: Bool[Tensor, "K P"], count: int) -> Bool[Tensor, "K P"]:
    """``count`` rows of each pool without replacement, or all of them where there are fewer."""
    priority = torch.rand(pool.shape, device=pool.device).masked_fill(~pool, -1.0)
    chosen = priority.topk(count, -1).indices
    return torch.zeros_like(pool).scatter(-1, chosen, True) & pool


def _rows(contexts: Transitions, which: slice) -> Transitions:
    return Transitions(*(x[:, which] for x in contexts))
