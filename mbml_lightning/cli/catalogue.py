"""``mbml envs``: a table of the registered environments, and a page with their pictures."""

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

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


def cells(distribution: TaskDistribution, below: str) -> list[str]:
    """Write the row of a distribution, in the order of ``HEADER``; ``below`` begins a new line within a cell."""
    env = TaskEnv(distribution.name)
    env.reset(seed=0)
    *_, terms = env.step(np.zeros(distribution.action_dim))
    name = below.join([distribution.env_id, *(f"{option.name}={option.default}" for option in fields(distribution))])
    numbers = (
        distribution.observation_dim,
        distribution.action_dim,
        distribution.horizon,
        distribution.frames_per_second,
    )
    sets = "/".join(str(len(distribution.splits[split])) if split in distribution.splits else "-" for split in SPLITS)
    return [name, *map(str, numbers), sets, below.join(terms)]


def option_meaning(distribution: type[TaskDistribution], option: str) -> str:
    """Find what an option means, under Args of its class or of the class that it is inherited from."""
    described = (docstring_parser.parse(kind.__doc__ or "").params for kind in distribution.__mro__)
    meaning = next(x.description for params in described for x in params if x.arg_name == option)
    return " ".join((meaning or "").split())


def page() -> str:
    """Write the page in Markdown: the table, and a section of each distribution with its options and picture."""
    table, sections = [list(HEADER), ["---"] * len(HEADER)], []
    for name, distribution in every_distribution().items():
        table.append(cells(distribution, "<br>"))
        options = (
            f"- `{o.name}={o.default}`: {option_meaning(type(distribution), o.name)}\n" for o in fields(distribution)
        )
        meaning = docstring_parser.parse(distribution.__doc__ or "").short_description
        shown = {"name": name, "meaning": meaning, "task": distribution.task_meaning, "options": "".join(options)}
        sections.append(SECTION.format(steps=STEPS_BEFORE_PICTURE, **shown))
    return PAGE.format(
        table="".join(f"| {' | '.join(line)} |\n" for line in table),
        legend="\n".join(f"- {name}: {meaning}" for name, meaning in HEADER.items()),
        steps=STEPS_BEFORE_PICTURE,
        sections="\n".join(sections),
    )


def picture(name: str) -> UInt8[np.ndarray, "height width 3"]:
    """Render the first training task after some steps of a seeded random policy.

    Raises:
        RuntimeError: No OpenGL context can be created.
    """
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
    """Write the page to ``path`` and the pictures to ``images`` beside it.

    Raises:
        RuntimeError: No OpenGL context can be created.
    """
    from matplotlib.image import imsave  # only here: the table needs no pictures

    images = path.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for name in every_distribution():
        imsave(images / f"{name}.png", picture(name), pil_kwargs={"optimize": True, "compress_level": 9})
    path.write_text(page(), encoding="utf-8")


def envs_command(words: Sequence[str]) -> None:
    """Print the table, or write the page.

    Args:
        words: The command line after ``mbml envs``.
    """
    parser = ArgumentParser("mbml envs", description="List the registered environments.")
    about = "write a Markdown page with pictures here, instead of printing the table"
    parser.add_argument("--page", type=Path, help=about)
    path = parser.parse_args(words).page
    if path:
        try:
            write_page(path)
        except RuntimeError as error:
            parser.exit(1, f"mbml envs: error: {error}\n")
        return
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in HEADER:
        table.add_column(name, justify="left" if name in ("id", "reward") else "right", no_wrap=True)
    for distribution in every_distribution().values():
        table.add_row(*(Text(cell) for cell in cells(distribution, "\n")))
    console = Console()
    console.print(table)
    for name, meaning in HEADER.items():
        console.print(Text(f"{name}: {meaning}"))
