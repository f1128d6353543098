"""``mbml envs``: a table of the registered environments, and a page with their pictures."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import docstring_parser
import numpy as np
from jaxtyping import UInt8
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mbml_lightning.envs.distribution import TaskDistribution
from mbml_lightning.envs.registry import every_distribution
from mbml_lightning.envs.task_env import TaskEnv
from mbml_lightning.splits import SPLITS

HEADER = {
    "id": "Gymnasium's; below it, the options and their defaults",
    "obs": "dimensions of an observation",
    "act": "dimensions of an action",
    "steps": "horizon of an episode, in control steps",
    "Hz": "control steps in a second of the simulated world, rounded",
    "tasks": "their number in the official sets train/test/ood",
    "reward": "its terms under the default options, as the info of a step names them; the reward is their sum",
}
STEPS_BEFORE_PICTURE = 10

PAGE = """\
# Environments

What `mbml envs` lists, written by `mbml envs --page docs/environments.md`.

{table}
{legend}

```python
import gymnasium as gym
import mbml_lightning.envs

env = gym.make("mbml/AntDir-v0", task=0.5, contact_forces=True)  # one task, with an option
envs = gym.make_vec("mbml/AntDir-v0", tasks="test")  # all test tasks side by side
```

Where a whole distribution is named, as in `--task.distribution`, options follow its name:
`AntDir+contact_forces=True`.

**Your own** distribution is a subclass of `mbml_lightning.envs.TaskDistribution` in a module of your own; nothing here
needs to change. Name its class path wherever a distribution is named, `--task.distribution my_module.MyDistribution`,
or register it under its `family`: in Python by `mbml_lightning.envs.register(MyDistribution)`, or for every process by
an entry point in the `pyproject.toml` of your package:

```toml
[project.entry-points."mbml_lightning.distributions"]
MyDistribution = "my_module:MyDistribution"
```

**Pictures** come from `render()` with `render_mode="rgb_array"`. Without a display, start Python with `MUJOCO_GL=egl`
(a GPU, or Mesa's libEGL) or `MUJOCO_GL=osmesa` (software, libOSMesa). A green ball marks a goal or, two metres ahead,
a direction; speeds and physical parameters have no marker. Below, each is shown after {steps} random steps in its first
training task.

{sections}"""

SECTION = """\
## {name}

{meaning}

- task: {task}
{options}
<img src="images/{name}.png" width="320" alt="{name} after {steps} random steps">
"""


class Entry(NamedTuple):
    """One distribution as the table lists it; its reward's terms are those that the info of a step names."""

    family: TaskDistribution
    options: dict[str, Any]
    reward_terms: tuple[str, ...]

    def cells(self, below: str) -> list[str]:
        """Write the cells of a row in the order of ``HEADER``; ``below`` begins a new line within a cell."""
        of = self.family
        name = below.join([of.env_id, *(f"{option}={default}" for option, default in self.options.items())])
        numbers = (of.observation_dim, of.action_dim, of.horizon, of.frames_per_second)
        sets = "/".join(str(len(of.splits[split])) if split in of.splits else "-" for split in SPLITS)
        return [name, *map(str, numbers), sets, below.join(self.reward_terms)]


def entries() -> list[Entry]:
    """Describe all distributions, those of the paper first; the terms of a reward are read off one step."""
    listed = []
    for family in every_distribution().values():
        env = TaskEnv(family.name)
        env.reset(seed=0)
        *_, terms = env.step(np.zeros(family.action_dim))
        listed.append(Entry(family, {field.name: field.default for field in fields(family)}, tuple(terms)))
    return listed


def option_meaning(family: type[TaskDistribution], option: str) -> str:
    """Find what an option means, under Args of its class or of the class that it is inherited from."""
    described = (docstring_parser.parse(kind.__doc__ or "").params for kind in family.__mro__)
    meaning = next(x.description for params in described for x in params if x.arg_name == option)
    return " ".join((meaning or "").split())


def page() -> str:
    """Write the page in Markdown: the table, and of each distribution its meaning, tasks, options and picture."""
    listed, sections, steps = entries(), [], STEPS_BEFORE_PICTURE
    for family, options, _ in listed:
        lines = (f"- `{name}={default}`: {option_meaning(type(family), name)}\n" for name, default in options.items())
        meaning, task = docstring_parser.parse(family.__doc__ or "").short_description, family.task_meaning
        about = {"name": family.family, "meaning": meaning, "task": task, "options": "".join(lines), "steps": steps}
        sections.append(SECTION.format(**about))
    rows = [HEADER, ["---"] * len(HEADER), *(one.cells("<br>") for one in listed)]
    table = "".join(f"| {' | '.join(row)} |\n" for row in rows)
    legend = "\n".join(f"- {name}: {meaning}" for name, meaning in HEADER.items())
    return PAGE.format(table=table, legend=legend, steps=steps, sections="\n".join(sections))


def picture(name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Render the first training task after some steps of a seeded random policy."""
    env = TaskEnv(name, render_mode="rgb_array")
    env.reset(seed=0)
    env.action_space.seed(0)
    for _ in range(STEPS_BEFORE_PICTURE):
        env.step(env.action_space.sample())
    frame = env.render()
    env.close()
    assert frame is not None, "the render mode is given"
    return frame


def write_page(path: Path) -> None:
    """Write the page to ``path`` and the pictures to ``images`` beside it; they need an OpenGL context."""
    from matplotlib.image import imsave  # only here: the table needs no pictures

    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in every_distribution():
        imsave(images / f"{name}.png", picture(name), pil_kwargs={"optimize": True, "compress_level": 9})
    path.write_text(page(), encoding="utf-8")


def envs_command(words: Sequence[str]) -> None:
    """Print the table, or write the page; ``words`` is the command line after ``mbml envs``."""
    parser = ArgumentParser("mbml envs", description="List the registered environments.")
    parser.add_argument(
        "--page", type=Path, help="write a Markdown page with pictures here, instead of printing the table"
    )
    path = parser.parse_args(words).page
    if path is None:
        print_table()
        return
    try:
        write_page(path)
    except RuntimeError as error:
        parser.exit(1, f"mbml envs: error: {error}\n")


def print_table() -> None:
    """Print the table, and below it what its columns mean."""
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in HEADER:
        table.add_column(name, justify="left" if name in ("id", "reward") else "right", no_wrap=True)
    for one in entries():
        table.add_row(*(Text(cell) for cell in one.cells("\n")))
    console = Console()
    console.print(table)
    for name, meaning in HEADER.items():
        console.print(Text(f"{name}: {meaning}"))
