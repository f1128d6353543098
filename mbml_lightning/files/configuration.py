"""The configuration that a run has saved, and how those of two runs are compared."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

CONFIG = "config.yaml"
DECIDES = {"model", "data", "evaluation", "sensitivity"}  # sections whose arguments decide what a run leaves
ELSEWHERE = {"store", "teachers", "checkpoint", "next_state_checkpoint", "collectors", "folder", "verify"}
"""Arguments that say where something is."""
SPEED = "evaluation.copies"
SEEDS = {"seed", "seed_everything"}


def saved_configuration(run: Path) -> dict[str, Any] | None:
    """Read the values of the configuration that a run has saved; None if it has not, or they cannot be read."""
    try:
        values = OmegaConf.to_container(OmegaConf.load(run / CONFIG), resolve=True)
    except Exception:  # a file that anyone may have edited
        return None
    return cast(dict[str, Any], values) if isinstance(values, dict) else None


def difference(before: Mapping[str, Any], now: Mapping[str, Any], seeds: bool = True) -> str | None:
    """Name the first argument in which two configurations make different runs, with both values; None if there is none.

    Where files are, and on what machine a run is made, make no difference; without ``seeds``, seeds make none either.
    """
    old, new = (dict(_deciding(config)) for config in (before, now))
    for name in [*new, *(old.keys() - new.keys())]:
        if not seeds and name.rpartition(".")[2] in SEEDS:
            continue
        if (was := old.get(name)) != (is_now := new.get(name)):
            return f"{name} is {was} there and {is_now} here"
    return None


def _deciding(config: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Give the arguments that decide what a run leaves, by dotted name."""
    yield "seed_everything", config.get("seed_everything")
    yield "trainer.max_steps", config.get("trainer", {}).get("max_steps")
    for section in sorted(DECIDES & config.keys()):
        yield from _flat(config[section], section)


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            if key not in ELSEWHERE and f"{name}.{key}" != SPEED:
                yield from _flat(inner, name if key == "init_args" else f"{name}.{key}")
    else:
        yield name, value
