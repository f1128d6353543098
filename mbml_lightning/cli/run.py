"""``mbml fit`` and ``mbml validate``: the LightningCLI of the package."""

import logging
import os
import signal
import sys
import warnings
import weakref
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from shutil import rmtree
from tempfile import mkdtemp
from typing import Any, Literal

from jsonargparse import Namespace
from lightning import LightningDataModule, Trainer
from lightning.pytorch.callbacks import ProgressBar, Timer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI

from mbml_lightning import algorithms, data, objectives
from mbml_lightning.cli.checks import check_agreement, check_seed, check_values
from mbml_lightning.cli.configuration import DEFAULTS, TRAINER_DEFAULTS, Scale, TaskSpec
from mbml_lightning.cli.interpolation import names, plain, print_if_asked, read, resolved, written
from mbml_lightning.cli.messages import in_one_line
from mbml_lightning.cli.names import with_files
from mbml_lightning.cli.ownership import decide, home
from mbml_lightning.cli.parser import Parser
from mbml_lightning.cli.tasks import with_number_of_tasks
from mbml_lightning.errors import ConfigurationError
from mbml_lightning.files.checkpoints import Checkpoint
from mbml_lightning.files.run_folder import LAST, locked
from mbml_lightning.training.algorithm import Algorithm
from mbml_lightning.training.checkpointing import LastCheckpoint
from mbml_lightning.training.evaluation import OnlineEvaluation
from mbml_lightning.training.logger import UpdateCount, continue_wandb
from mbml_lightning.training.precision import use_fastest_float32
from mbml_lightning.training.progress import progress
from mbml_lightning.training.run_folder import RunFolder
from mbml_lightning.training.sensitivity import RewardSensitivity
from mbml_lightning.training.stopping import STOP, GracefulStop, TimeLimit, is_over

MADE = {
    "task": TaskSpec,
    "scale": Scale,
    "trainer": Trainer,
    "evaluation": OnlineEvaluation,
    "sensitivity": RewardSensitivity,
    "checkpoint": LastCheckpoint,
}
"""Classes of the sections that have no ``class_path``."""
RANK_ZERO = "lightning.pytorch.utilities.rank_zero"
"""Name under which Lightning tells what is no warning."""


class CLI(LightningCLI):
    """LightningCLI whose configuration is a method file, a task file, a scale file, overlays and single values."""

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the sections of a run beside model, data and trainer; Lightning calls this to build the parser."""
        parser.add_class_arguments(TaskSpec, "task")
        parser.add_class_arguments(Scale, "scale")
        parser.add_argument("--method", type=str, default="run", help="Name of the method's folder.")
        parser.add_argument("--experiment", type=str, help="Folder of all runs that belong together.")
        parser.add_argument("--run", type=str, help="Folder of this run.")
        sweep = "Arguments whose values enter the name of the run's folder; `auto`: those that the command line gives."
        parser.add_argument("--sweep", type=list[str] | Literal["auto"], default=[], help=sweep)
        overwrite = "Replace the run that the folder holds; `changed`: only one of another configuration or other data."
        parser.add_argument(
            "--overwrite", type=bool | Literal["changed"], default=False, nargs="?", const=True, help=overwrite
        )
        parser.add_lightning_class_args(OnlineEvaluation, "evaluation")
        parser.add_lightning_class_args(RewardSensitivity, "sensitivity")
        parser.add_lightning_class_args(LastCheckpoint, "checkpoint")
        parser.set_defaults(DEFAULTS)

    def __init__(self, command: str, *args: Any, **kwargs: Any) -> None:
        self.command = command
        super().__init__(*args, **kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # Lightning's is static
        """Offer the one command that is run: the parser of every other one would take a quarter of a second."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the configuration and refuse one that cannot be run; Lightning calls this before it makes anything."""
        with in_one_line("the configuration cannot be read"):
            words = with_files(sys.argv[1:] if args is None else args)
            command, self.written = read(parser, words)
            print_if_asked(words, self.written)
            folder = self.folder(command, words)
            values = resolved(self.written | ({} if folder is None else {"run": folder}))
            check_seed(values["seed_everything"])
            values = with_number_of_tasks(command, values)
            self.config = Namespace(subcommand=command)  # type: ignore[no-untyped-call]
            self.config[command] = self._parser(command).parse_object(values)
        config = self.config[command]
        check_values(config.as_dict(), MADE)
        check_agreement(config.as_dict(), trains=command == "fit")
        if config.weights_only is None:  # read checkpoints without unpickling, unless asked otherwise
            config.weights_only = True
        self.config_dump = plain(self._parser(command).dump(config, skip_none=False))  # Lightning's too

    def folder(self, command: str, words: Sequence[str]) -> str | None:
        """Choose another folder than the configured one: a scratch one for a trial, or that of the weights."""
        values = resolved(self.written)
        if values["trainer"]["fast_dev_run"]:
            scratch = mkdtemp(prefix="mbml-")
            weakref.finalize(self, rmtree, scratch, ignore_errors=True)  # at the end of this object or of the process
            return scratch
        moved = home(values["ckpt_path"]) if command == "validate" and not names(words, "run") else None
        return None if moved is None else str(moved)

    def instantiate_classes(self) -> None:
        """Make method, data and trainer, with errors of one line; Lightning calls this after parsing."""
        with in_one_line("what is configured cannot be made"):
            super().instantiate_classes()

    def before_fit(self) -> None:
        """Refuse a method that cannot learn from the data; Lightning calls this before `fit`."""
        name, needed = type(self.model).__name__, self.model.learns_from
        if needed is None:
            raise ConfigurationError(f"model.class_path: {name} has nothing to train: use `mbml validate`")
        if not isinstance(self.datamodule, needed):
            made = type(self.datamodule).__name__
            raise ConfigurationError(f"data.class_path is {made}, but must be {needed.__name__}, which {name} needs")
        decision = decide(self.values(), self.datamodule)
        self.config_init.fit.ckpt_path = decision.checkpoint
        self.prepare(decision.checkpoint, begins=decision.action == "begin")
        if decision.action == "leave":
            print(f"mbml: {self.config.fit.run} holds this run already, finished; --overwrite makes it anew")
            sys.exit()

    def before_validate(self) -> None:
        """Find the weights to evaluate; Lightning calls this before `validate`."""
        config = self.config.validate
        path = Path(config.run, LAST) if config.ckpt_path == "last" else config.ckpt_path
        if path is None and self.model.learns_from is not None:
            last = Path(config.run, LAST)
            hint = f"`--ckpt_path last` takes {last}" if last.exists() else "give the last.ckpt of a run"
            raise ConfigurationError(f"ckpt_path: {type(self.model).__name__} without weights is not evaluated: {hint}")
        self.config_init.validate.ckpt_path = path
        self.prepare(path, begins=False)

    def prepare(self, checkpoint: str | Path | None, begins: bool) -> None:
        """Refuse a strategy or a checkpoint that does not fit, and tell the method its configuration.

        Nothing has been set up and no rank been started yet.
        """
        self.model.check_strategy(self.trainer)
        if checkpoint is not None:
            self.model.check_checkpoint(Checkpoint.read(checkpoint))
        self.model.config = self.values()
        self.run_folder.begins = begins
        if not begins:
            continue_wandb(self.trainer.loggers, self.run_folder.folder)

    def values(self) -> dict[str, Any]:
        """Return the values of the whole configuration as plain data."""
        return self.config_dump

    def text(self) -> str:
        """Return the configuration as it is saved, with its interpolations; how the run is started stays out."""
        return written(self.written | {"ckpt_path": None, "overwrite": False, "weights_only": None})

    def fit(self, model: Algorithm, **kwargs: Any) -> None:
        """Train as the only process that works in the run's folder."""
        with self.alone():
            self.trainer.fit(model, **kwargs)

    def validate(self, model: Algorithm, **kwargs: Any) -> None:
        """Evaluate as the only process that works in the run's folder."""
        with self.alone():
            self.trainer.validate(model, **kwargs)

    def alone(self) -> AbstractContextManager[None]:
        """Lock the run's folder, on rank 0 for all ranks."""
        return locked(Path(self.config[self.subcommand].run)) if self.trainer.is_global_zero else nullcontext()

    def after_fit(self) -> None:
        """Report a run that ended early; after a signal, exit with the code that schedulers expect.

        Lightning calls this after `fit`.
        """
        number, done, asked = STOP.received, self.trainer.global_step, self.trainer.max_steps
        if self.trainer.is_global_zero and (number is not None or done < asked):
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
            timers = [type(callback) for callback in callbacks if is_over(callback)]
            who = "trainer.max_time" if TimeLimit in timers else "a callback"
            who = who if number is None else signal.Signals(number).name
            more = ", if the duration of its Timer is raised" if number is None and Timer in timers else ""
            goes_on = f"the same command with --ckpt_path last goes on{more}"
            print(f"mbml: {who} ended the run after {done} of {asked} updates; {goes_on}", file=sys.stderr)
            if number is not None:
                sys.exit(128 + number)
        self.after_validate()

    def after_validate(self) -> None:
        """Print what the last evaluation gave and where it is; Lightning calls this after `validate`."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            for line in callback.summaries.values() if isinstance(callback, OnlineEvaluation) else ():
                print(line)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Add our callbacks where the user brings none of the kind; Lightning calls this to make the trainer."""
        trainer = self.config_init[self.subcommand].trainer
        given = trainer.callbacks or []
        told = self.values() if trainer.enable_autolog_hparams else None
        self.run_folder = RunFolder(self.config[self.subcommand].run, self.text(), told)
        trainer.callbacks = [self.run_folder, UpdateCount(), *given]
        if trainer.max_time is not None:
            trainer.callbacks.append(TimeLimit(trainer.max_time))
        if trainer.enable_progress_bar is not False and not any(isinstance(x, ProgressBar) for x in given):
            trainer.callbacks.append(progress())
        trainer.max_time, trainer.enable_autolog_hparams = None, False  # ours do it
        with in_one_line("trainer"):
            made = super().instantiate_trainer(**kwargs)
        if trainer.profiler is not None:
            logging.getLogger(RANK_ZERO).setLevel(logging.INFO)  # by which profilers tell what they found
        return made

    def _parse_ckpt_path(self) -> None:
        """Keep the configuration as given, where Lightning would merge the hyper-parameters of the checkpoint."""


def quieten() -> None:
    """Silence Lightning's hints to its newcomers, and limit the time that Weights & Biases is waited for."""
    for name in ("WANDB_INIT_TIMEOUT", "WANDB_FINISH_TIMEOUT"):
        os.environ.setdefault(name, "60")
    logging.getLogger(RANK_ZERO).setLevel(logging.WARNING)
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
        r"\s*Unable to serialize instance",  # a default of a class of others, which is then not written
    ):
        warnings.filterwarnings("ignore", message)


def run_command(words: Sequence[str] | None) -> None:
    """Train or evaluate a method; ``words`` is the command line after ``mbml``, None for that of the process.

    Classes of this package need no path on the command line; those of modules in the current folder are found by path.
    """
    quieten()
    use_fastest_float32()
    for package in (algorithms, data, objectives):
        for module in iter_modules(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    CLI(
        (sys.argv[1:] if words is None else words)[0],
        Algorithm,
        LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_callback=None,
        trainer_defaults=TRAINER_DEFAULTS | {"callbacks": [GracefulStop()]},
        parser_class=Parser,
        parser_kwargs={"parser_mode": "omegaconf+", "allow_abbrev": False, "prog": "mbml"},
        args=None if words is None else list(words),
    )
