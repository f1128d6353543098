"""Posteriors in two dimensions, of contexts with their own and with other tasks' rewards."""

import numpy as np
from jaxtyping import Float
from matplotlib.figure import Figure

from mbml_lightning.report.drawing import PANEL
from mbml_lightning.report.style import task_colours
from mbml_lightning.results.runs import MethodRuns

CROSSES = 1500  # drawn at most, about


def posteriors(method: MethodRuns) -> Figure | None:
    """Draw the posterior means of the first seed that kept them, before and after training.

    A colour is the task whose rewards a context has: dots are contexts of the task itself, crosses transitions of
    another task with its rewards.
    """
    found = next((run.posteriors for run in method.runs if run.posteriors), None)
    if found is None:
        return None
    figure = Figure(figsize=(PANEL[0], 2.7), layout="constrained")
    for axes, (when, means) in zip(np.atleast_1d(figure.subplots(1, len(found))), found.items(), strict=True):
        tasks, n, size = means.own.shape
        rewards_of, states_of = np.nonzero(~np.eye(tasks, dtype=bool))
        relabelled = means.relabelled[rewards_of, states_of, : max(1, CROSSES // max(1, len(rewards_of)))]
        flat = [means.own.reshape(-1, size), relabelled.reshape(-1, size)]
        own, crosses = np.split(principal_plane(np.concatenate(flat)), [len(flat[0])])
        colours = task_colours(tasks)
        ink = colours[rewards_of].repeat(relabelled.shape[1], 0)
        axes.scatter(*crosses.T, s=9, marker="x", lw=0.7, alpha=0.7, c=ink)
        axes.scatter(*own.T, s=22, marker="o", ec=axes.get_facecolor(), lw=0.5, c=colours.repeat(n, 0))
        axes.set(title=f"{when} training", xticks=[], yticks=[])
        axes.spines[:].set_visible(True)
    return figure


def principal_plane(points: Float[np.ndarray, "n Z"]) -> Float[np.ndarray, "n 2"]:
    """Project points onto their two principal components, the second 0 where there is one dimension."""
    centred = points - points.mean(0)
    _, _, components = np.linalg.svd(centred, full_matrices=False)
    components = components[:2]
    # The largest entry is positive: else the sign is the machine's choice.
    largest = np.take_along_axis(components, np.abs(components).argmax(1, keepdims=True), 1)
    plane: Float[np.ndarray, "n d"] = centred @ (components * np.where(largest < 0, -1, 1)).T
    return np.pad(plane, ((0, 0), (0, 2 - plane.shape[1])))
