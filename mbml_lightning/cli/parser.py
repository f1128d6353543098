"""The parser of `mbml fit` and `mbml validate`, whose errors are one line that names the argument."""

import re
import sys
from os import PathLike
from textwrap import shorten
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from mbml_lightning.cli.messages import WIDTH

UNASKED = (
    *("Problem with given class_path", "Given value", "Subtypes:", "Errors:", "Expected a path but"),
    *("Does not validate against any of the", "Subclass types expect", "a class path (str)", "a dict with"),
    *("Expected a <class 'NoneType'>", "Expected a <class 'collections.abc.Iterable'>"),
    *("1 validation error for", "For further information visit"),
)
"""How those lines of jsonargparse and pydantic begin that explain their types and not the mistake."""
KEY = re.compile(r'Parser key "(.*)":')
"""One step of the path to the argument, in the order of the nesting."""
NESTED = re.compile(r"NestedArg\(key='(.*?)'")
"""The rest of the path after the first step, if the argument was given on the command line; the last one is whole."""
PLAIN = {
    r"Expected a dot import path string: (\S+)": r"there is no class \1: correct it, or give the path of your own",
    r"^Value error, ": "",
    r"Unable to load config ['\"](.*?)['\"]$": r"there is no such file: \1",
    r"Expected a <class 'collections\.abc\.Sequence'>\. Got value: (.*)": r"\1 is no list: write [\1]",
    r"Expected a <class '(?:bool)'>": "give true or false",
    r"Expected a <class '(?:int)'>": "give a whole number",
    r"Expected a typing\.Literal\[(.*)\]": r"give \1",
}
"""Words of jsonargparse that only its developers understand, and ours for them."""
DETAILS = re.compile(r" \[type=.*, input_value=(.*), input_type=.*\]$", re.MULTILINE)
"""How pydantic ends the line of a mistake."""


class Parser(LightningArgumentParser):
    """A `LightningArgumentParser` with errors of one line, without the usage of two hundred options."""

    def parse_string(self, content: str, path: str | PathLike[str] = "", *args: Any, **kwargs: Any) -> Namespace:
        """Keep the file's name, which errors of its syntax leave out."""
        self.reading = path
        parsed: Namespace = super().parse_string(content, path, *args, **kwargs)
        return parsed

    def error(self, message: str, ex: Exception | None = None) -> None:  # type: ignore[override]
        """Print what is wrong and where help is, and end the process."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        program = parser.prog.replace(" [options]", "")
        if message.startswith("Problems parsing config"):
            message = message.replace("<unicode string>", str(getattr(parser, "reading", "")))
        sys.stderr.write(f"{program}: error: {shortened(message)}\nSee '{program} --help'.\n")
        self.exit(2)


def plainly(line: str) -> str:
    """Say in plain words what jsonargparse says of Python's types."""
    for pattern, words in PLAIN.items():
        line = re.sub(pattern, words, line)
    return line


def shortened(message: str) -> str:
    """Shorten an error of jsonargparse to the argument's path and what is wrong with its value."""
    keys, nested = list(dict.fromkeys(KEY.findall(message))), NESTED.findall(message)
    path = [keys[0], nested[-1]] if nested else keys
    lines = dict.fromkeys(line.strip(" -") for line in KEY.sub("", DETAILS.sub(r": \1", message)).splitlines())
    told = list(dict.fromkeys(plainly(line) for line in lines if line and not line.startswith(UNASKED)))
    if path == ["seed_everything"]:
        told = ["give a whole number"]  # Lightning would also take true for any seed
    return shorten(": ".join(filter(None, [".".join(path), "; ".join(told)])), 5 * WIDTH, placeholder=" ...")
