"""What values arguments may have: a command is refused before anything is made of its configuration.

Arguments of one name mean the same in every class of the package, so that `BOUNDS` says once for each name which
numbers it may be. Where a name is not listed, its end after an underscore is: ``sac_lr`` is an ``lr``. Types are
checked by jsonargparse, but for null, which it takes everywhere: here the hints of the constructors decide on it.

To add an argument, annotate it in its constructor. If it is a number or a list of them, write its name into the line of
`BOUNDS` that says what it may be; tests/test_arguments.py fails until then.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pkgutil import resolve_name
from types import NoneType
from typing import Any, NoReturn, get_args, get_type_hints

from mbml_lightning.errors import ConfigurationError

Values = Mapping[str, Any]
PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Bound:
    """Numbers from ``low`` to ``high``; ``low`` itself not, if ``above``."""

    low: int | float
    high: int | float
    above: bool = False

    def remedy(self, value: int | float) -> str | None:
        """What ``value`` must be instead, None if it may be what it is."""
        if value != value or abs(value) == math.inf:
            return "a finite number"  # JSON, in which results keep the configuration, has no other
        if value < self.low or (self.above and value == self.low):
            return f"{'above' if self.above else 'at least'} {self.low}"
        return f"at most {self.high:,}" if value > self.high else None


ANY = Bound(-math.inf, math.inf)
BOUNDS = {
    name: bound
    for bound, names in {
        Bound(1, 10**9): "batch_size candidates capacity collection_steps context_episodes context_sets context_size "
        "contexts copies episodes evaluate_every hidden interactions max_context max_steps members num_tasks trials "
        "trials_while_training unseen_tasks updates updates_per_block val_check_interval z_dim",
        Bound(0, 10**9): "beta margin power regularisation uncounted warmup weight",
        Bound(0, 10**9, above=True): "epsilon lr reward_scale timeout_minutes",
        Bound(0, 1): "discount phi soft_min tau",
        Bound(0, math.inf): "threshold",
        Bound(0, 2**32 - 1): "seed seed_everything",
        Bound(-1, 4096): "devices num_nodes",
    }.items()
    for name in names.split()
}
"""The one table: which numbers an argument may be, by its name."""
SINGLE: dict[str, Any] = dict.fromkeys(("data", "experiment", "method", "model", "run", "seed_everything"), object)
SINGLE["ckpt_path"] = str | None
"""Hints of what is made of no section; an object is not null."""


def bound_of(name: str) -> Bound | None:
    """That of the name, or of its longest listed end."""
    words = name.split("_")
    return next((BOUNDS[end] for i in range(len(words)) if (end := "_".join(words[i:])) in BOUNDS), None)


def check_values(config: Values, made: Mapping[str, type]) -> None:
    """Refuse values that arguments may not have.

    Args:
        config: Single values, and sections, of which those with a ``class_path`` say themselves what they become.
        made: What the other sections become.

    Raises:
        ConfigurationError: The first such value, with its path in the configuration.
    """
    single = [name for name, value in config.items() if not isinstance(value, Mapping)]
    for name in dict.fromkeys([*single, *made, *config]):  # first what others are interpolated from
        if name in made:
            check_arguments(name, made[name], config[name])
        else:
            check_value(name, config[name], SINGLE.get(name, Any), bound_of(name))


def check_arguments(path: str, constructor: Callable[..., Any], values: Any) -> None:
    """Compare values with the hints of a constructor and the bounds of their names; others' classes check their own."""
    if not isinstance(values, Mapping):
        refuse(path, values, "a section")
    hints = hints_of(constructor)
    for name, value in values.items():
        hint, module = hints.get(name, (Any, ""))
        ours = module.split(".")[0] == PACKAGE
        section = "." not in path  # the trainer is one
        check_value(f"{path}.{name}", value, hint if ours or section else Any, bound_of(name) if ours else None)


def hints_of(constructor: Callable[..., Any]) -> dict[str, tuple[Any, str]]:
    """Hint and module of every argument, also of those that a constructor hands to its parents as ``**kwargs``."""
    parents = reversed(constructor.__mro__) if isinstance(constructor, type) else ()
    makers = [vars(parent)["__init__"] for parent in parents if "__init__" in vars(parent)] or [constructor]
    return {name: (hint, maker.__module__) for maker in makers for name, hint in resolved(maker).items()}


def resolved(maker: Callable[..., Any]) -> dict[str, Any]:
    """Its hints; none of another package's that names what only type checkers import."""
    try:
        return get_type_hints(maker)
    except NameError:
        return {}


def check_value(path: str, value: Any, hint: Any, bound: Bound | None) -> None:
    """Compare one value, or all that it holds, with the hint and the bound of its argument."""
    if value is None and hint is not Any and NoneType not in get_args(hint):
        refuse(path, value, "given")
    if isinstance(value, str) and hint is not Any and not (value.strip() and value.isprintable()):
        refuse(path, value, "text")
    if isinstance(value, int | float) and (remedy := (bound or ANY).remedy(value)):
        refuse(path, value, remedy)
    if isinstance(value, Mapping) and "class_path" in value:
        check_arguments(path, resolve_name(value["class_path"]), value.get("init_args") or {})
    elif isinstance(value, Mapping | list | tuple):
        held = value.items() if isinstance(value, Mapping) else (("", item) for item in value)
        for key, item in held:
            check_value(f"{path}.{key}" if key else path, item, Any if hint is Any else object, bound)


def refuse(path: str, value: Any, remedy: str) -> NoReturn:
    """Say in one line what is wrong and what would be right."""
    raise ConfigurationError(f"{path} is {'null' if value is None else repr(value)[:100]}, but must be {remedy}")
