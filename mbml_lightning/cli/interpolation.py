"""Configurations as they are written, with interpolations such as ``${scale.mbml_lr}``, and their values."""

import re
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, cast

from jsonargparse import Namespace
from jsonargparse._common import parser_context  # the one way to read a configuration without resolving it
from lightning.pytorch.cli import LightningArgumentParser
from omegaconf import DictConfig, OmegaConf
from yaml import SafeDumper  # type: ignore[import-untyped]  # that of jsonargparse

from mbml_lightning.data.budget import updates_of
from mbml_lightning.errors import ConfigurationError

Values = dict[str, Any]
SWEPT = ("model", "data", "task", "scale", "evaluation")
"""Sections whose arguments enter a folder's name if `sweep` is ``auto``."""
PRINT = "--print_config"
"""Prints the configuration with its interpolations, ``--print_config=resolved`` with their values."""

OmegaConf.register_resolver("blocks", lambda updates, per_block: max(1, updates // per_block))
OmegaConf.register_resolver("twice", lambda a: 2 * a)
OmegaConf.register_resolver("updates", updates_of)
SafeDumper.add_multi_representer(Enum, lambda dumper, member: dumper.represent_data(member.value))


def read(parser: LightningArgumentParser, words: Sequence[str]) -> tuple[str, Values]:
    """Read a command line and its files; return the command and its configuration with all interpolations in place."""
    with parser_context(lenient_check=True):
        config: Namespace = parser.parse_args(
            [word for word in words if not word.startswith(PRINT)], _skip_validation=True
        )
    command = config.subcommand
    values = plain(parser.dump(config, skip_validation=True, skip_unset=False))[command]
    if not (values.get("task") or {}).get("distribution"):
        raise ConfigurationError("task: none is given: add --task conf/task/umaze_goal_m.yaml, or another file there")
    if values["sweep"] == "auto":
        values["sweep"] = overridden(words)
    return command, values


def resolved(values: Mapping[str, Any]) -> Values:
    """Put values in the place of interpolations, whose paths begin at the top of the configuration."""
    return cast(Values, OmegaConf.to_container(OmegaConf.create(dict(values)), resolve=True))


def plain(text: str) -> Values:
    """Read a configuration from YAML, with its interpolations."""
    return cast(Values, OmegaConf.to_container(OmegaConf.create(text)))


def written(values: Mapping[str, Any]) -> str:
    """Write a configuration as YAML, in the order of its arguments."""
    return OmegaConf.to_yaml(OmegaConf.create(dict(values)))


def overridden(words: Sequence[str]) -> list[str]:
    """List the arguments of a run that a command line gives one by one, as in ``--model.lr=0.01``, by their names."""
    options = (word[2:].partition("=")[0].rstrip("+") for word in words if word.startswith("--"))
    return list(dict.fromkeys(name for name in options if name.partition(".")[0] in SWEPT and "." in name))


def names(words: Sequence[str], option: str) -> bool:
    """Tell whether a command line gives an option."""
    return any(word.partition("=")[0] == f"--{option}" for word in words)


def swept(_root_: DictConfig) -> str:
    """Resolve ``${swept:}``: the arguments of `sweep` and their values as part of a folder's name."""
    return "".join(f",{name}={_short(_find(_root_, name))}" for name in _root_.sweep or ())


OmegaConf.register_resolver("swept", swept)


def _find(node: Any, name: str) -> Any:
    """Find the value of an argument; the level ``init_args`` of classes may be left out of its name."""
    for key in name.split("."):
        if OmegaConf.is_dict(node) and key not in node and "init_args" in node:
            node = node.init_args
        if not (OmegaConf.is_dict(node) and key in node):
            raise ConfigurationError(f"sweep: there is no argument {name}")
        node = node[key]
    return node


def _short(value: Any) -> str:
    """Write a value so that it can be part of a folder's name."""
    if OmegaConf.is_dict(value):
        value = value.get("class_path", "changed").rpartition(".")[2]
    text = "-".join(map(str, value)) if OmegaConf.is_list(value) else str(value)
    return re.sub(r"[^\w.+-]", "_", text)[:60]


def print_if_asked(words: Sequence[str], values: Mapping[str, Any]) -> None:
    """End the command with its configuration on the terminal, if its words ask for that."""
    for form in (word.removeprefix(PRINT) for word in words if word.startswith(PRINT)):
        if form not in ("", "=resolved"):
            raise ConfigurationError(
                f"{PRINT}{form}: give {PRINT}, or {PRINT}=resolved for values in the place of ${{...}}"
            )
        sys.stdout.write(written(resolved(values) if form else values))
        sys.exit(0)
