"""Configuration files by their names: ``-c mbml --task umaze_goal_m``, from the working folder or from the package."""

import re
from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path
from shutil import copytree

from mbml_lightning.errors import ConfigurationError

FOLDERS = {"-c": "", "--config": "", "--task": "task", "--scale": "scale", "--trainer": "trainer"}
"""Where in ``conf/`` the files of an option are."""
NAME = re.compile(r"[\w/-]+(\.yaml)?")
"""What may be a name, and no value such as ``{distribution: AntDir}``."""


def shipped() -> Path:
    """Return the folder of the files that come with the package: within it, or beside it in a clone."""
    package = Path(__file__).parents[1]
    return next((folder for folder in (package / "conf", package.parent / "conf") if folder.is_dir()), package / "conf")


def with_files(words: Sequence[str]) -> list[str]:
    """Put the paths of files in the place of their names.

    A file that is there under the given path is taken; then one of the folder ``conf`` here, then one of the package.

    Raises:
        ConfigurationError: There is no such file.
    """
    found = list(words)
    for i, word in enumerate(words):
        option, _, value = word.partition("=")
        if option in FOLDERS and value:
            found[i] = f"{option}={file_of(option, value)}"
        elif option in FOLDERS and "=" not in word and i + 1 < len(words):
            found[i + 1] = file_of(option, words[i + 1])
    return found


def file_of(option: str, value: str) -> str:
    """Find the file that an option's value names; any other value stays as it is."""
    if not NAME.fullmatch(value) or Path(value).is_file():
        return value
    folder = "" if value.startswith("conf/") else FOLDERS[option]
    path = Path(folder, f"{value.removeprefix('conf/').removesuffix('.yaml')}.yaml")
    for root in (Path("conf"), shipped()):
        if (root / path).is_file():
            return str(root / path)
    if value.endswith(".yaml") and folder:
        return value  # a path, which the parser will miss
    raise ConfigurationError(f"{option} {value}: there is no such file, nor conf/{path}; {choice(option)}")


def choice(option: str) -> str:
    """Say which names there are."""
    roots = (Path("conf") / FOLDERS[option], shipped() / FOLDERS[option])
    there = sorted({file.stem for root in roots for file in root.glob("*.yaml")})
    return f"choose among {', '.join(there)}"


def init_command(words: Sequence[str]) -> None:
    """Copy the package's configuration files into the working folder, where they are found first.

    Raises:
        ConfigurationError: There is a folder ``conf`` already.
    """
    ArgumentParser("mbml init", description="Copy the configuration files into the folder conf.").parse_args(words)
    if Path("conf").exists():
        raise ConfigurationError("conf: exists already; move it away to begin anew")
    copytree(shipped(), "conf")
    print("mbml: conf/ holds the configuration files; what is there is taken before the package's")
