"""Looks of the pictures: colours that can be told apart on white and on black, and two themes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.colors import hsv_to_rgb

from mbml_lightning.results.methods import METHODS
from mbml_lightning.results.runs import MethodRuns

# Background, text and lines, as in page.html.
LIGHT = ("#ffffff", "#1f242c", "#dfe3e8")
DARK = ("#15181d", "#d9dde3", "#343a43")
SPARE = ("#1b9e77", "#b15bc2", "#bd9b00", "#d1495b", "#2f7fd0", "#9a7050")
"""Middle tones for what has no colour of its own."""
MARKERS = "osD^vP*X<>hpd"


def colours(methods: Sequence[MethodRuns]) -> dict[str, str]:
    """Give every method its colour, the same in every picture of a report."""
    spare = iter(SPARE * len(methods))
    return {method.name: method.card.colour or next(spare) for method in methods}


def marker(method: str) -> str:
    """Return the marker of a method, a second sign beside its colour."""
    return MARKERS[[*METHODS].index(method) % len(MARKERS)] if method in METHODS else "o"


def task_colours(count: int) -> Float[np.ndarray, "count 3"]:
    """Sample hues around the circle, pale and strong in turn so that neighbours differ."""
    task = np.arange(count)
    return hsv_to_rgb(np.stack([task / count, np.where(task % 2, 0.4, 0.6), np.full(count, 0.75)], 1))


def theme(background: str, ink: str, faint: str) -> Any:
    """Return the settings of matplotlib for a theme."""
    style: dict[str, Any] = dict.fromkeys(["figure.facecolor", "axes.facecolor"], background)
    style |= dict.fromkeys(["text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"], ink)
    style |= dict.fromkeys(["axes.edgecolor", "grid.color"], faint)
    style |= dict.fromkeys(["xtick.major.size", "ytick.major.size", "ytick.minor.size"], 0)
    style |= dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False)
    return style | {"font.family": "DejaVu Sans", "font.size": 9.5, "axes.axisbelow": True}
