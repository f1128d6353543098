"""What a configuration consists of beside method, data and trainer: the task and the scale."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class TaskSpec:
    """What is particular to one task distribution (Table 9 and Table 2).

    Args:
        distribution: Name of the distribution, as in the environment id ``mbml/<distribution>-v0``.
        interactions: Transitions of each task's batch, the first so many that its SAC collected (N).
        collection_steps: Environment steps of SAC on each task, warm-up included.
        bcq_updates: Gradient updates of each task's BCQ.
        relabel_threshold: Standard deviation of the reward ensemble above which a transition is not relabelled.
        next_state_threshold: The same of the next-state ensemble, its deviations averaged over the state's dimensions;
            None where tasks share their physics, so that next states need no relabelling.
    """

    distribution: str
    interactions: int
    collection_steps: int
    bcq_updates: int
    relabel_threshold: float
    next_state_threshold: float | None = None


@dataclass(frozen=True)
class Scale:
    """Sizes and budgets that a machine can afford; the defaults are the paper's (Tables 2 to 8).

    Args:
        interactions: Transitions of each task's batch, by default the task's.
        collection_steps: Environment steps of SAC on each task, by default the task's.
        bcq_updates: Updates of BCQ, by default the task's.
        name: Names the runs' folder.
        warmup: Steps of SAC before its first update.
        sac_hidden: Hidden layers of SAC's critics.
        sac_actor_hidden: Hidden layers of SAC's actors.
        sac_batch_size: Transitions a task in an update of SAC.
        sac_lr: Learning rate of SAC.
        bcq_hidden: Hidden layers of BCQ's critics and perturbation.
        vae_hidden: Hidden layers of BCQ's CVAE.
        bcq_lr: Learning rate of BCQ.
        ensemble_updates: Updates of the reward ensembles.
        next_state_updates: Updates of the next-state ensembles.
        next_state_hidden: Hidden layers of a next-state ensemble's member.
        ensemble_lr: Learning rate of both kinds of ensembles.
        mbml_updates: Updates of phase 2, and of the baselines beside it.
        encoder_hidden: Hidden layers of the task encoder.
        q_hidden: Hidden layers of Q_D.
        generator_hidden: Hidden layers of G_D.
        perturbation_hidden: Hidden layers of xi_D.
        pearl_hidden: Hidden layers of PEARL's networks.
        mbml_lr: Learning rate of phase 2, and of the baselines.
        mbml_batch_size: Transitions a task in an update of phase 2; doubled for PEARL.
        context_size: Context rows a task in an update of phase 2; doubled for methods without relabelling.
        kl_weight: beta of Eq. 3.
        standardise_context: Whether the encoder's inputs are standardised.
        evaluate_every: Updates of phase 2 between evaluations.
        trials_while_training: Trials a task of these evaluations; the last one has ``evaluation.trials``.
    """

    interactions: int
    collection_steps: int
    bcq_updates: int
    name: str = "paper"
    warmup: int = 10_000
    sac_hidden: list[int] = field(default_factory=lambda: [1024] * 7)
    sac_actor_hidden: list[int] = field(default_factory=lambda: [256, 256])
    sac_batch_size: int = 256
    sac_lr: float = 3e-4
    bcq_hidden: list[int] = field(default_factory=lambda: [400, 300])
    vae_hidden: list[int] = field(default_factory=lambda: [750, 750])
    bcq_lr: float = 3e-4
    ensemble_updates: int = 4_000
    next_state_updates: int = 20_000
    next_state_hidden: list[int] = field(default_factory=lambda: [256] * 6)
    ensemble_lr: float = 3e-4
    mbml_updates: int = 100_000
    encoder_hidden: list[int] = field(default_factory=lambda: [200] * 3)
    q_hidden: list[int] = field(default_factory=lambda: [1024] * 9)
    generator_hidden: list[int] = field(default_factory=lambda: [1024] * 7)
    perturbation_hidden: list[int] = field(default_factory=lambda: [1024] * 8)
    pearl_hidden: list[int] = field(default_factory=lambda: [300] * 3)
    mbml_lr: float = 3e-4
    mbml_batch_size: int = 128
    context_size: int = 64
    kl_weight: float = 0.1
    standardise_context: bool = False
    evaluate_every: int = 2_500
    trials_while_training: int = 2
