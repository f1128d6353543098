"""The base of all methods that infer their task: the encoder, relabelled contexts, and hooks on both."""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from mbml_lightning.arguments import NonNegativeFloat, PositiveInt, Seed, UnitInterval
from mbml_lightning.data.relabelling import Relabelled, Relabeller, under_every_task
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.nets.standardiser import Standardiser
from mbml_lightning.nets.task_encoder import TaskEncoder, product, sample
from mbml_lightning.objectives.divergence import kl_to_prior
from mbml_lightning.objectives.hooks import ContextStep, StepHook, hook_losses
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.training.averaging import MovingAverage
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
        context_window: Draw the rows of a context from so many consecutive transitions, at a random place in the task's
            batch, such as an episode: so the encoder learns from contexts like those that are observed when acting,
            from one policy, and not from all that a learning SAC tried. None, as in the paper: from all transitions.
        kl_weight: beta of Eq. 3.
        kl_mean_over_tasks: Average KL(q(c_i) || N(0, I)) over tasks (Eq. 3) instead of summing it (official code).
        combine: Infer z from own and relabelled rows together, 2C rows, instead of C rows drawn from either.
        standardise_context: Give the encoder inputs of mean 0 and deviation 1; without it, differences of rewards can
            be small beside those of states, and the triplet takes longer to leave its margin.
        standardise: Standardise states for all other networks, by statistics of all tasks together.
        ema_decay: Decay an update of a moving average of all weights, which is evaluated and kept in place of the last
            ones, whose returns go up and down from one evaluation to the next; 0 for none.
        updates_per_block: Gradient updates of a Lightning batch.
        seed: Seed of the updates' randomness.
    """

    encoder: TaskEncoder

    def __init__(
        self,
        distribution: str,
        num_tasks: PositiveInt | None = None,
        relabeller: Relabeller | None = None,
        hooks: Mapping[str, StepHook] | None = None,
        encoder_hidden: Sequence[PositiveInt] = (200, 200, 200),
        z_dim: PositiveInt = 20,
        context_size: PositiveInt = 64,
        context_sets: PositiveInt = 1,
        context_window: PositiveInt | None = None,
        kl_weight: NonNegativeFloat = 0.1,
        kl_mean_over_tasks: bool = False,
        combine: bool = True,
        standardise_context: bool = False,
        standardise: bool = False,
        ema_decay: UnitInterval = 0.0,
        updates_per_block: PositiveInt = 50,
        seed: Seed = 0,
    ) -> None:
        super().__init__(distribution, num_tasks, updates_per_block, seed)
        self.save_hyperparameters(ignore=["relabeller", "hooks"])
        self.relabeller, self.combine, self.standardise_context = relabeller, combine, standardise_context
        self.context_size, self.context_rows = context_size, context_size * context_sets
        self.context_window, self.ema_decay = context_window, ema_decay
        self.kl_weight, self.kl_mean_over_tasks = kl_weight, kl_mean_over_tasks
        self.inputs = Standardiser(self.dims[0]) if standardise else self.inputs
        self.encoder = TaskEncoder(*self.dims, z_dim, encoder_hidden)
        self.hooks = nn.ModuleDict(dict(hooks or {}))
        for hook in (hooks or {}).values():
            hook.build(*self.dims, z_dim, self.num_tasks)

    def configure_callbacks(self) -> list[MovingAverage]:
        """Average the weights, if that is asked for; Lightning adds this to the trainer's callbacks."""
        return [MovingAverage(self.ema_decay, self.updates_per_block)] if self.ema_decay else []

    def on_fit_start(self) -> None:
        """Load what only training needs: the relabeller's ensembles, and the spread of the encoder's inputs.

        Raises:
            ConfigurationError: If the method trains its hooks' networks with no optimiser.
        """
        super().on_fit_start()
        trained = {id(p) for optimizer in self.optimizer_list() for p in optimizer.param_groups[0]["params"]}
        if any(id(p) not in trained for p in self.hooks.parameters()):
            name = type(self).__name__
            raise ConfigurationError(f"{name}.configure_optimizers leaves out self.hooks: train them with the encoder")
        if self.standardise_context:
            self.encoder.standardise(self.rows.unpack(self.rows.packed))
        if self.relabeller is not None:
            for name, checkpoint in self.relabeller.prepare(self.rows, self.distribution.name).items():
                self.learned_from(name, checkpoint)

    def relabel(self, batch: TaskBatch) -> Relabelled | None:
        """Give every task's context rows the rewards of every other task, c_{j->i} (Algorithm 3); None without."""
        assert batch.contexts is not None and batch.context_index is not None
        if self.relabeller is None:
            return None
        return self.relabeller(batch.contexts.map(self._first), batch.context_index[:, : self.context_size])

    def infer(self, batch: TaskBatch, relabelled: Relabelled | None) -> ContextStep:
        """Encode every row once, pool own and relabelled ones to q(z | {c_i, c~_i}), and sample z."""
        assert batch.contexts is not None
        contexts = batch.contexts.map(self._first)  # (K, C)
        rows = factors = kept = None
        if relabelled is None:
            own = self.encoder(contexts)  # (K, C, Z)
            posterior = product(own)  # (K, Z)
        else:
            rows, kept = under_every_task(contexts, relabelled), relabelled.kept  # both (K, K, C)
            factors = self.encoder(rows)  # (K, K, C, Z)
            own = factors.map(lambda x: x.diagonal().movedim(-1, 0))  # (K, C, Z)
            posterior = self.posterior(factors, kept)
        sets = self.sets(own, batch.contexts)
        return ContextStep(contexts, own, rows, factors, kept, posterior, sample(posterior), sets, self.encoder)

    def posterior(self, factors: Gaussian, kept: Bool[Tensor, "K K C"]) -> Gaussian:
        """q(z | {c_i, c~_i}), c~_i up to C relabelled rows drawn from all that were kept (Algorithm 4, line 6)."""
        own = torch.eye(len(kept), dtype=torch.bool, device=kept.device).unsqueeze(-1).expand_as(kept)
        pool = (kept if self.combine else kept | own).flatten(1)  # (K, K C): rows that may be drawn
        drawn = draw_rows(pool, kept.shape[-1])
        mask = drawn | own.flatten(1) if self.combine else drawn
        return product(factors.map(lambda x: x.flatten(1, 2)), mask)

    def sets(self, own: Gaussian, contexts: Transitions) -> Gaussian | None:
        """Posteriors of all contexts of each task, ``(K, N, Z)``; the rows of the first are encoded already."""
        if self.context_rows == self.context_size:
            return None
        others = self.encoder(contexts.map(lambda x: x[:, self.context_size :]))  # (K, (N - 1) C, Z)
        rows = (torch.cat(x, 1).unflatten(1, (-1, self.context_size)) for x in zip(own, others, strict=True))
        return product(Gaussian(*rows))

    def with_encoder_losses(self, losses: dict[str, Tensor], step: ContextStep) -> dict[str, Tensor]:
        """Add beta KL(q || N(0, I)) (Eq. 3) and the losses of the hooks to the method's own losses.

        Raises:
            ConfigurationError: If a hook's loss has the name of another one.
        """
        divergence = kl_to_prior(step.posterior)
        kl = self.kl_weight * (divergence.mean() if self.kl_mean_over_tasks else divergence.sum())
        losses, more = losses | {"kl_loss": kl}, hook_losses(self.hooks, step)
        if taken := losses.keys() & more.keys():
            name = min(taken)
            raise ConfigurationError(f"model.hooks: {name} is a loss of {type(self).__name__} itself: rename the hook")
        return losses | more

    def logged(self, losses: dict[str, Tensor], step: ContextStep) -> dict[str, Tensor]:
        """Losses of an update, and the share of relabelled rows that were trusted."""
        kept = step.kept_fraction
        return losses if kept is None else losses | {"kept_fraction": kept}

    def _first(self, x: Tensor) -> Tensor:
        """Rows of the first context, from which z is inferred; hooks compare it with the others."""
        return x[:, : self.context_size]


def draw_rows(pool: Bool[Tensor, "K P"], count: int) -> Bool[Tensor, "K P"]:
    """Draw ``count`` rows of each pool without replacement, or all of them where there are fewer."""
    priority = torch.rand(pool.shape, device=pool.device).masked_fill(~pool, -1.0)
    chosen = priority.topk(count, -1).indices
    return torch.zeros_like(pool).scatter(-1, chosen, True) & pool
