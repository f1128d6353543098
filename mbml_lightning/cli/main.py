"""The command ``mbml``: reads which command is asked for, and imports no more than that command needs."""

import sys
from argparse import SUPPRESS, ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from importlib.metadata import version
from pkgutil import resolve_name

from mbml_lightning.cli.messages import ending_in_one_line

DESCRIPTION = """\
Multi-task batch RL with metric learning.

commands:
  demo      run the whole pipeline on one task distribution, and report
  fit       train a method, evaluate it, and leave a run's folder
  validate  evaluate the weights of a run
  report    compare the runs of an experiment (mbml report RUNS)
  envs      list the environments
  init      copy the configuration files into the folder conf, to edit them
"""
OTHERS = {
    "demo": "mbml_lightning.cli.demo.demo_command",
    "report": "mbml_lightning.cli.report.report_command",
    "envs": "mbml_lightning.cli.catalogue.envs_command",
    "init": "mbml_lightning.cli.names.init_command",
}
"""Functions of the commands beside `fit` and `validate`."""


def main(args: Sequence[str] | None = None) -> None:
    """Run a command, by default that of the process; errors that the user can correct are printed as one line."""
    parser = ArgumentParser(
        "mbml", usage="mbml COMMAND ...", description=DESCRIPTION, formatter_class=RawDescriptionHelpFormatter
    )
    parser.epilog = "`mbml COMMAND --help` explains the options of a command."
    parser.add_argument("--version", action="version", version=f"mbml {version('mbml-lightning')}")
    parser.add_argument("command", choices=("fit", "validate", *OTHERS), metavar="COMMAND", help=SUPPRESS)
    words = list(sys.argv[1:] if args is None else args)
    command = parser.parse_args(words[:1]).command
    with ending_in_one_line():
        if command in OTHERS:
            resolve_name(OTHERS[command])(words[1:])
        else:
            from mbml_lightning.cli.run import run_command

            run_command(None if args is None else words)
