"""``mbml fit``, ``mbml validate``, ``mbml report`` and ``mbml envs``: the LightningCLI of the package."""

import logging
import os
import signal
import sys
import warnings
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from lightning import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from omegaconf import OmegaConf

# Imported so that class names need no path on the command line.
import mbml_lightning.algorithms
import mbml_lightning.data.relabelling
import mbml_lightning.objectives.focal
import mbml_lightning.objectives.hard_mining
import mbml_lightning.objectives.reconstruction
import mbml_lightning.objectives.task_classifier
import mbml_lightning.objectives.triplet  # noqa: F401
from mbml_lightning.algorithms.random import Random
from mbml_lightning.algorithms.sac import SAC
from mbml_lightning.cli import catalogue
from mbml_lightning.cli.agreement import check_agreement
from mbml_lightning.cli.bounds import check_values
from mbml_lightning.cli.configuration import Scale, TaskSpec
from mbml_lightning.cli.messages import Parser, ending_in_one_line, in_one_line
from mbml_lightning.data.offline import OfflineDataModule
from mbml_lightning.data.online import OnlineDataModule
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.files.checkpoints import read_checkpoint
from mbml_lightning.files.writing import write_text
from mbml_lightning.report.figures import paper_figure
from mbml_lightning.report.report import report
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.training.checkpointing import LastCheckpoint
from mbml_lightning.training.evaluation import OnlineEvaluation
from mbml_lightning.training.precision import use_fastest_float32
from mbml_lightning.training.progress import Progress
from mbml_lightning.training.sensitivity import RewardSensitivity
from mbml_lightning.training.stopping import STOP, GracefulStop
from mbml_lightning.training.strategy import Ranks

# `${task.horizon}` in one file reaches what another file or the command line says.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)
OmegaConf.register_resolver("blocks", lambda updates, per_block: max(1, updates // per_block))
OmegaConf.register_resolver("minus", lambda a, b: a - b)
OmegaConf.register_resolver("twice", lambda a: 2 * a)

MADE = {
    "task": TaskSpec,
    "scale": Scale,
    "trainer": Trainer,
    "evaluation": OnlineEvaluation,
    "sensitivity": RewardSensitivity,
    "checkpoint": LastCheckpoint,
}
"""What sections without a ``class_path`` are made into."""

DESCRIPTION = (
    "Multi-task batch RL with metric learning. Besides the commands below, `mbml report RUNS` compares runs and "
    "`mbml envs` lists the environments."
)

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_epochs": -1,  # `max_steps` updates are the measure
    "check_val_every_n_epoch": None,  # `val_check_interval` counts blocks of updates
    "num_sanity_val_steps": 0,
    "enable_model_summary": False,
    "devices": 1,  # `--trainer conf/trainer/ddp.yaml` takes all
    "log_every_n_steps": 1,
    "logger": {
        "class_path": "mbml_lightning.training.logger.JSONLLogger",
        "init_args": {"save_dir": "${....run}"},
    },
}


class ConfigFile(SaveConfigCallback):
    """``config.yaml`` in the run's folder, whole or not at all; a validation leaves that of the training."""

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write it, on rank 0."""
        path = Path(self.config.run, self.config_filename)
        if stage == "fit" or not path.exists():
            write_text(path, self.parser.dump(self.config, skip_none=False))


class CLI(LightningCLI):
    """One configuration for every command: a method file, a task file, a scale file, overlays, single values."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """What a run consists of beside model, data and trainer; `..` climbs from a value to the file's top."""
        parser.add_class_arguments(TaskSpec, "task")
        parser.add_class_arguments(Scale, "scale")
        parser.add_argument("--method", type=str, default="run", help="Name of the method's folder.")
        parser.add_argument("--experiment", type=str, help="Folder of all runs that belong together.")
        parser.add_argument("--run", type=str, help="Folder of this run.")
        parser.add_lightning_class_args(OnlineEvaluation, "evaluation")
        parser.add_lightning_class_args(RewardSensitivity, "sensitivity")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "experiment": "runs/${.task.distribution}-${.scale.name}",
                "run": "${.experiment}/${.method}/seed-${.seed_everything}",
                "scale.interactions": "${..task.interactions}",
                "scale.collection_steps": "${..task.collection_steps}",
                "scale.bcq_updates": "${..task.bcq_updates}",
                "evaluation.folder": "${..run}",
                "evaluation.trials_while_training": "${..scale.trials_while_training}",
                "evaluation.collectors": {
                    "train": "${...experiment}/sac/seed-${...seed_everything}/last.ckpt",
                    "test": "${...experiment}/sac_test/seed-0/last.ckpt",
                    "ood": "${...experiment}/sac_ood/seed-0/last.ckpt",
                },
                "sensitivity.folder": "${..run}",
                "checkpoint.dirpath": "${..run}",
            }
        )

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """Training and evaluation; there is no test or predict stage."""
        return {name: skip for name, skip in LightningCLI.subcommands().items() if name in ("fit", "validate")}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the configuration, and refuse one that cannot be run."""
        with in_one_line("the configuration cannot be read"):
            super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand]
        check_values(config.as_dict(), MADE)
        check_agreement(config.as_dict(), trains=self.config.subcommand == "fit")
        if config.weights_only is None:  # read checkpoints without unpickling, unless asked otherwise
            config.weights_only = True

    def instantiate_classes(self) -> None:
        """Make method, data and trainer of the configuration."""
        with in_one_line("what is configured cannot be made"):
            super().instantiate_classes()

    def before_fit(self) -> None:
        """Refuse a method that cannot learn from the data, too."""
        name = type(self.model).__name__
        if isinstance(self.model, Random):
            raise ConfigurationError(f"model.class_path: {name} has nothing to train: use `mbml validate`")
        needed = OnlineDataModule if isinstance(self.model, SAC) else OfflineDataModule
        if not isinstance(self.datamodule, needed):
            made = type(self.datamodule).__name__
            raise ConfigurationError(f"data.class_path is {made}, but must be {needed.__name__}, which {name} needs")
        self.before_validate()

    def before_validate(self) -> None:
        """Refuse a checkpoint that cannot be used before anything is set up; tell the method what it is made of."""
        if self.trainer.world_size > 1 and not isinstance(self.trainer.strategy, Ranks):
            raise ConfigurationError("trainer.strategy: several ranks need `--trainer conf/trainer/ddp.yaml`")
        self._check_checkpoint()
        text = self._parser(self.subcommand).dump(self.config[self.subcommand], skip_none=False)
        self.model.config = OmegaConf.to_container(OmegaConf.create(text))

    def after_fit(self) -> None:
        """Say who ended the run early; if it was a signal, leave with the code that schedulers expect."""
        number, done, asked = STOP.received, self.trainer.global_step, self.trainer.max_steps
        if self.trainer.is_global_zero and (number is not None or done < asked):
            who = "an argument of the trainer" if number is None else signal.Signals(number).name
            more = "the same command with --ckpt_path last goes on"
            print(f"mbml: {who} ended the run after {done} of {asked} updates; {more}", file=sys.stderr)
            if number is not None:
                sys.exit(128 + number)

    def _check_checkpoint(self) -> None:
        config = self.config_init[self.subcommand]
        path = Path(config.run, "last.ckpt") if config.ckpt_path == "last" else config.ckpt_path
        if path is not None and (config.ckpt_path != "last" or path.exists()):
            self.model.check_checkpoint(read_checkpoint(path))

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add our progress bar, unless bars are off."""
        trainer = self.config_init[self.subcommand].trainer
        if trainer.enable_progress_bar is not False:
            trainer.callbacks = [*(trainer.callbacks or []), Progress()]
        with in_one_line("trainer"):
            return super().instantiate_trainer(**kwargs)

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration as given: a checkpoint restores weights, it does not say what runs."""


def quieten() -> None:
    """Leave out what Lightning tells newcomers to Lightning; do not wait for ever for Weights & Biases."""
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"):
        os.environ.setdefault(name, "60")
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    for name in ("seed", "distributed"):
        logging.getLogger(f"lightning.fabric.utilities.{name}").setLevel(logging.WARNING)
    for message in (
        ".*treespec, LeafSpec.*",
        ".*args parameter is intended to run from within Python.*",
        ".*does not have many workers.*",
        ".*exists and is not empty.*",
        ".*No seed found.*",
        ".*is not resumable.*",
        ".*sync_dist=True.*",  # all ranks know the same scores
        ".*there is no last checkpoint available.*",
    ):
        warnings.filterwarnings("ignore", message)


def report_command(words: Sequence[str]) -> None:
    """``mbml report``: compare the methods of one experiment."""
    parser = ArgumentParser("mbml report", description=report.__doc__, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="folders in which runs are searched for")
    parser.add_argument("--output", type=Path, help="the page; report.html in the first folder if not given")
    parser.add_argument("--figure", type=int, help="draw only this figure of the paper: 4, 6, 7, 11 or 12")
    options = parser.parse_args(words)
    if options.figure is None:
        report(options.runs, options.output)
    else:
        paper_figure(options.runs, options.figure, options.output)


def lightning_command(words: Sequence[str] | None) -> None:
    """``mbml fit`` and ``mbml validate``."""
    quieten()
    use_fastest_float32()
    CLI(
        Algorithm,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_callback=ConfigFile,
        save_config_kwargs={"overwrite": True, "save_to_log_dir": False},
        trainer_defaults=TRAINER_DEFAULTS | {"callbacks": [GracefulStop()]},
        parser_class=Parser,
        parser_kwargs={"parser_mode": "omegaconf+", "allow_abbrev": False, "description": DESCRIPTION},
        args=None if words is None else list(words),
    )


def main(args: Sequence[str] | None = None) -> None:
    """Run a command; what a user can mend is said in one line.

    Args:
        args: Command and options, those of the process by default.
    """
    words = list(sys.argv[1:] if args is None else args)
    with ending_in_one_line():
        if words[:1] == ["report"]:
            report_command(words[1:])
        elif words[:1] == ["envs"]:
            catalogue.main(words[1:])
        else:
            lightning_command(None if args is None else words)
