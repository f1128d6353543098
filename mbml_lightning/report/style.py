"""How pictures look: colours that can be told apart on white and on black, and two themes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mbml_lightning.results.methods import REFERENCES
from mbml_lightning.results.runs import Method

# Background, text and lines, as in page.html.
LIGHT = ("#ffffff", "#1f242c", "#dfe3e8")
DARK = ("#15181d", "#d9dde3", "#343a43")
# Middle tones; the yardsticks are grey.
COLOURS = {
    "mbml": "#2f7fd0",
    "contextual_bcq": "#1b9e77",
    "pearl": "#b15bc2",
    "no_relabelling": "#d1495b",
    "no_triplet": "#bd9b00",
    "neither": "#e0702c",
    "ground_truth": "#14a0b8",
    "no_ensemble": "#9a7050",
    "margin_0": "#8fa62b",
    "margin_4": "#c77a9b",
    "margin_8": "#6f78c9",
    "focal": "#e05fb0",
    "unicorn_sup": "#7a8f2a",
    "unicorn_ss": "#5c63d6",
    "multi_task_bc": "#4f9a3c",
} | dict.fromkeys(REFERENCES, "#7d8794")
SPARE = ("#1b9e77", "#b15bc2", "#bd9b00", "#d1495b")
DASHES: dict[str, Any] = {"bcq": "--", "sac": ":", "sac_test": (0, (7, 2)), "sac_ood": (0, (1, 3)), "random": "-."}
MARKERS = "osD^vP*X<>hpd"


def colours(methods: Sequence[Method]) -> dict[str, str]:
    """Colour of every method, the same in every picture of a report."""
    others = [method.name for method in methods if method.name not in COLOURS]
    return COLOURS | {name: SPARE[i % len(SPARE)] for i, name in enumerate(others)}


def marker(method: str) -> str:
    """Marker of a method, a second sign beside its colour."""
    return MARKERS[[*COLOURS].index(method) % len(MARKERS)] if method in COLOURS else "o"


def task_colours(count: int) -> Float[np.ndarray, "count 3"]:
    """Hues of equal lightness around the circle (Oklch), two lightnesses in turn so that neighbours differ."""
    hue = 2 * np.pi * np.arange(count) / count
    lightness, chroma = np.where(np.arange(count) % 2, 0.74, 0.62), 0.13
    cone = np.stack([np.ones(count), chroma * np.cos(hue), chroma * np.sin(hue)])
    cone[0] = lightness
    to_lms = np.array([[1, 0.3963378, 0.2158038], [1, -0.1055613, -0.0638542], [1, -0.0894842, -1.2914855]])
    to_rgb = np.array(
        [[4.0767417, -3.3077116, 0.2309699], [-1.2684380, 2.6097574, -0.3413194], [-0.0041961, -0.7034186, 1.7076147]]
    )
    linear = np.clip(to_rgb @ (to_lms @ cone) ** 3, 0, 1)
    rgb: Float[np.ndarray, "3 count"] = np.where(
        linear > 0.0031308, 1.055 * linear ** (1 / 2.4) - 0.055, 12.92 * linear
    )
    return rgb.T


def theme(background: str, ink: str, faint: str) -> Any:
    """Settings of matplotlib for a theme."""
    style: dict[str, Any] = dict.fromkeys(["figure.facecolor", "axes.facecolor"], background)
    style |= dict.fromkeys(["text.color", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"], ink)
    style |= dict.fromkeys(["axes.edgecolor", "grid.color"], faint)
    style |= dict.fromkeys(["xtick.major.size", "ytick.major.size", "ytick.minor.size"], 0)
    style |= dict.fromkeys(["axes.spines.top", "axes.spines.right", "legend.frameon"], False)
    return style | {"font.family": "DejaVu Sans", "font.size": 9.5, "axes.axisbelow": True}
