"""Scores under the context protocols of the field, side by side."""

from collections.abc import Sequence

from mbml_lightning.files.evaluation import PROTOCOLS
from mbml_lightning.results.runs import Method
from mbml_lightning.results.statistics import interval_text

SENTENCES = {
    "prior-online": "only its own episodes, the first one acted from the prior; the paper's protocol.",
    "offline-own": "context collected before the trial by a policy that was trained on this very task; whoever "
    "chose that policy knew the task.",
    "offline-other": "context collected in this task by another task's policy; states suggest one task and rewards "
    "say another, the trap for an encoder that ignores rewards.",
    "random-first": "only its own episodes, the first one acted uniformly at random.",
}
HEADER = ["Method", *PROTOCOLS]


def protocol_rows(methods: Sequence[Method], split: str) -> list[list[str]]:
    """Mean return and interval of every method that adapts, under every protocol; none without the split."""
    shown = [method for method in methods if not method.is_reference]
    table = [[m.label, *(interval_text(m.estimate(split, protocol=p)) for p in PROTOCOLS)] for m in shown]
    return [row for row in table if set(row[1:]) != {"-"}]
