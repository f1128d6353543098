"""Configuration of a run beside its method: the task, the scale, and the wiring between all sections."""

from dataclasses import dataclass, field
from typing import Any

from mbml_lightning.arguments import NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, UnitInterval


@dataclass(frozen=True)
class LaptopSpec:
    """Budgets of a task for two cores, and SAC's settings there; ``conf/scale/laptop.yaml`` reads them.

    Args:
        distribution: The distribution, where a machine of this size is better served by other options.
        interactions: Transitions of each task's batch.
        collection_steps: Environment steps of SAC on each task, warm-up included.
        copies: Copies of each task's environment in which SAC collects.
        updates_per_step: Updates of SAC after a step of all copies.
        sac_batch_size: Transitions a task in an update of SAC.
        discount: SAC's discount; those of the other phases are the paper's.
        bcq_updates: Updates of BCQ.
        phi: Largest correction of a candidate action.
        mbml_updates: Updates of phase 2, and of the baselines.
        mbml_hidden: Hidden layers of phase 2's Q_D, G_D and xi_D, and of the baselines' networks.
        mbml_lr: Learning rate of phase 2, and of the baselines.
        context_window: Consecutive transitions that a context is drawn from, null for all.
        evaluate_every: Updates of phase 2 between evaluations.
    """

    distribution: str = "${task.distribution}"
    interactions: PositiveInt = 20_000
    collection_steps: PositiveInt = 20_000
    copies: PositiveInt = 4
    updates_per_step: PositiveInt = 1
    sac_batch_size: PositiveInt = 128
    discount: UnitInterval = 0.99
    bcq_updates: PositiveInt = 5_000
    phi: UnitInterval = 0.05
    mbml_updates: PositiveInt = 6_000
    mbml_hidden: list[PositiveInt] = field(default_factory=lambda: [256, 256])
    mbml_lr: PositiveFloat = 1e-3
    context_window: PositiveInt | None = None
    evaluate_every: PositiveInt = 500


@dataclass(frozen=True)
class TaskSpec:
    """Budgets and thresholds of one task distribution (Table 9 and Table 2).

    Args:
        distribution: Name of the distribution, as in the environment id ``mbml/<distribution>-v0``.
        interactions: Transitions of each task's batch, the first so many that its SAC collected (N).
        collection_steps: Environment steps of SAC on each task, warm-up included.
        bcq_updates: Gradient updates of each task's BCQ.
        relabel_threshold: Standard deviation of the reward ensemble above which a transition is not relabelled.
        next_state_threshold: The same of the next-state ensemble, its deviations averaged over the state's dimensions;
            None where tasks share their physics, so that next states need no relabelling.
        laptop: What the scale ``laptop`` takes from here.
    """

    distribution: str
    interactions: PositiveInt
    collection_steps: PositiveInt
    bcq_updates: PositiveInt
    relabel_threshold: NonNegativeFloat
    next_state_threshold: NonNegativeFloat | None = None
    laptop: LaptopSpec = field(default_factory=LaptopSpec)


@dataclass(frozen=True)
class Scale:
    """Sizes and budgets that a machine can afford, by phase; the defaults are the paper's (Tables 2 to 8).

    Args:
        interactions: Transitions of each task's batch, by default the task's.
        collection_steps: Environment steps of SAC on each task, by default the task's.
        bcq_updates: Updates of BCQ, by default the task's.
        distribution: The distribution of all phases, by default the task's; a scale may add options to it.
        name: Part of the name of the runs' folder.
        standardise: Standardise states for SAC, BCQ, phase 2 and the baselines.
        warmup: Steps of SAC before its first update.
        sac_hidden: Hidden layers of SAC's critics.
        sac_actor_hidden: Hidden layers of SAC's actors.
        sac_batch_size: Transitions a task in an update of SAC.
        sac_lr: Learning rate of SAC.
        sac_discount: gamma of SAC.
        sac_tau: Rate at which SAC's target networks follow.
        sac_copies: Copies of each task's environment in which SAC collects.
        sac_updates_per_step: Updates of SAC after a step of all copies.
        sac_actor_every: Updates of SAC's critics for one of actor and temperature.
        sac_initial_temperature: SAC's alpha at the beginning.
        sac_layer_norm: Normalise what enters the ReLUs of SAC's critics.
        bcq_hidden: Hidden layers of BCQ's critics and perturbation.
        vae_hidden: Hidden layers of BCQ's CVAE.
        bcq_lr: Learning rate of BCQ.
        bcq_layer_norm: Normalise what enters the ReLUs of BCQ's critics.
        phi: Largest correction of a candidate action, by BCQ, its student and Contextual BCQ.
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
        context_window: Consecutive transitions that a context is drawn from, null for all.
        kl_weight: beta of Eq. 3.
        standardise_context: Standardise the encoder's inputs.
        standardise_values: Standardise the values that Q_D learns, teacher by teacher.
        ema_decay: Decay an update of the average of weights that phase 2 and the baselines keep; 0 to keep the last.
        evaluate_every: Updates of phase 2 between evaluations.
        trials_while_training: Trials a task of these evaluations; the last one has ``evaluation.trials``.
    """

    interactions: PositiveInt
    collection_steps: PositiveInt
    bcq_updates: PositiveInt
    distribution: str
    name: str = "paper"
    standardise: bool = False
    # phase 0: SAC
    warmup: NonNegativeInt = 10_000
    sac_hidden: list[PositiveInt] = field(default_factory=lambda: [1024] * 7)
    sac_actor_hidden: list[PositiveInt] = field(default_factory=lambda: [256, 256])
    sac_batch_size: PositiveInt = 256
    sac_lr: PositiveFloat = 3e-4
    sac_discount: UnitInterval = 0.99
    sac_tau: UnitInterval = 0.005
    sac_copies: PositiveInt = 1
    sac_updates_per_step: PositiveInt = 1
    sac_actor_every: PositiveInt = 1
    sac_initial_temperature: PositiveFloat = 1.0
    sac_layer_norm: bool = False
    # phase 1: BCQ and the ensembles
    bcq_hidden: list[PositiveInt] = field(default_factory=lambda: [400, 300])
    vae_hidden: list[PositiveInt] = field(default_factory=lambda: [750, 750])
    bcq_lr: PositiveFloat = 3e-4
    bcq_layer_norm: bool = False
    phi: UnitInterval = 0.05
    ensemble_updates: PositiveInt = 4_000
    next_state_updates: PositiveInt = 20_000
    next_state_hidden: list[PositiveInt] = field(default_factory=lambda: [256] * 6)
    ensemble_lr: PositiveFloat = 3e-4
    # phase 2, and the baselines beside it
    mbml_updates: PositiveInt = 100_000
    encoder_hidden: list[PositiveInt] = field(default_factory=lambda: [200] * 3)
    q_hidden: list[PositiveInt] = field(default_factory=lambda: [1024] * 9)
    generator_hidden: list[PositiveInt] = field(default_factory=lambda: [1024] * 7)
    perturbation_hidden: list[PositiveInt] = field(default_factory=lambda: [1024] * 8)
    pearl_hidden: list[PositiveInt] = field(default_factory=lambda: [300] * 3)
    mbml_lr: PositiveFloat = 3e-4
    mbml_batch_size: PositiveInt = 128
    context_size: PositiveInt = 64
    context_window: PositiveInt | None = None
    kl_weight: NonNegativeFloat = 0.1
    standardise_context: bool = False
    standardise_values: bool = False
    ema_decay: UnitInterval = 0.0
    # evaluation
    evaluate_every: PositiveInt = 2_500
    trials_while_training: PositiveInt = 2


DEFAULTS: dict[str, Any] = {
    "experiment": "runs/${task.distribution}-${scale.name}",
    "run": "${experiment}/${method}${swept:}/seed-${seed_everything}",
    "scale.interactions": "${task.interactions}",
    "scale.collection_steps": "${task.collection_steps}",
    "scale.bcq_updates": "${task.bcq_updates}",
    "scale.distribution": "${task.distribution}",
    "data": {
        "class_path": "mbml_lightning.data.offline.OfflineDataModule",
        "init_args": {
            "store": "${experiment}/sac/seed-${seed_everything}/data",
            "distribution": "${scale.distribution}",
            "num_tasks": "${oc.select:model.init_args.num_tasks,null}",
            "split": "${oc.select:model.init_args.split,train}",
        },
    },
    "evaluation.folder": "${run}",
    "evaluation.trials_while_training": "${scale.trials_while_training}",
    "evaluation.collectors": {
        "train": "${experiment}/sac/seed-${seed_everything}/last.ckpt",
        "test": "${experiment}/sac_test/seed-0/last.ckpt",
        "ood": "${experiment}/sac_ood/seed-0/last.ckpt",
    },
    "sensitivity.folder": "${run}",
    "checkpoint.dirpath": "${run}",
}
"""Wiring of a run: where a value comes from that neither a file nor the command line gives."""

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": "${scale.mbml_updates}",
    "val_check_interval": "${blocks:${scale.evaluate_every},${oc.select:model.init_args.updates_per_block,50}}",
    "max_epochs": -1,  # `max_steps` updates are the measure
    "check_val_every_n_epoch": None,  # `val_check_interval` counts blocks of updates
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "devices": 1,  # `--trainer conf/trainer/ddp.yaml` takes all
    "log_every_n_steps": 1,
    "default_root_dir": "${run}",
    "logger": {
        "class_path": "mbml_lightning.training.logger.JSONLLogger",
        "init_args": {"save_dir": "${run}"},
    },
}
"""Arguments of the trainer that differ from Lightning's defaults."""
