"""One card for each method, in the order of a report; workflow, report, tests and benchmarks read it here."""

from dataclasses import dataclass, replace
from typing import Literal

GREY = "#7d8794"


@dataclass(frozen=True)
class Method:
    """A method that is compared with others, or a phase that others need.

    Args:
        name: Folder of its runs in an experiment.
        label: Name for a reader.
        sentence: Description in a sentence.
        kind: A ``method`` infers its task and acts, an ``ablation`` is MBML with something changed; a ``reference``
            adapts to no task; a ``collector`` is a reference that was trained on unseen tasks and collects contexts
            there; an ``ensemble`` does not act.
        command: Words after ``mbml``, without the task, the scale and the experiment.
        needs: Names of the methods whose runs must be finished before.
        figures: Numbers of the paper's figures in which it stands.
        colour: Colour of its lines; the report picks one where it is empty.
        dash: Style of a reference's line, as matplotlib has it.
        physics: Distributions that it is for: all, or those whose tasks share their physics or vary in it.
    """

    name: str
    label: str
    sentence: str = ""
    kind: Literal["method", "ablation", "reference", "collector", "ensemble"] = "method"
    command: str = ""
    needs: tuple[str, ...] = ()
    figures: tuple[int, ...] = ()
    colour: str = ""
    dash: str | tuple[int, tuple[int, ...]] = "-"
    physics: Literal["all", "shared", "varied"] = "all"

    @property
    def is_reference(self) -> bool:
        """True of a yardstick that adapts to no task."""
        return self.kind in ("reference", "collector")

    @property
    def is_trained(self) -> bool:
        """True of a method with weights of its own; others are only evaluated."""
        return not self.command.startswith("validate")


METHODS: dict[str, Method] = {}
"""All cards by name."""


def register(method: Method) -> None:
    """Add a card, or replace the one of this name; a method without one goes by the name of its folder."""
    METHODS[method.name] = method


def card(name: str) -> Method:
    """Return the card of a method, a plain one for a method that has none."""
    return METHODS.get(name) or Method(name, name)


def place(name: str) -> tuple[bool, int, str]:
    """Return the key of the order: as registered, unknown methods before the references."""
    return card(name).is_reference, [*METHODS].index(name) if name in METHODS else len(METHODS), name


def methods_for(physics: Literal["shared", "varied"]) -> dict[str, Method]:
    """Select the cards that can be run on distributions whose tasks share their physics, or vary in it."""
    usable = {name: method for name, method in METHODS.items() if method.physics in ("all", physics)}
    return {name: replace(m, needs=tuple(n for n in m.needs if n in usable)) for name, m in usable.items()}


_ENSEMBLES = ("reward_ensemble", "next_state_ensemble")
_MBML, _RELABELS = "fit -c conf/mbml.yaml", ("bcq", *_ENSEMBLES)


def _overlay(name: str) -> str:
    return f"{_MBML} -c conf/ablation/{name}.yaml"


for _method in (
    Method("mbml", "MBML", "one policy for all tasks, which infers the task from its own episodes",
           "method", _MBML, _RELABELS, (4, 6, 11, 12), "#2f7fd0"),
    Method("contextual_bcq", "Contextual BCQ",
           "BCQ on all tasks' transitions, given the task identity; its losses train the encoder",
           "method", "fit -c conf/contextual_bcq.yaml", ("sac",), (4,), "#1b9e77"),
    Method("pearl", "PEARL", "soft actor-critic given the task identity, trained from the batches",
           "method", "fit -c conf/pearl.yaml", ("sac",), (4,), "#b15bc2"),
    Method("no_relabelling", "No relabelling",
           "MBML with triplets of the hardest pairs of contexts instead of relabelled ones",
           "ablation", _overlay("no_relabelling"), ("bcq",), (6,), "#d1495b"),
    Method("no_triplet", "No triplet", "MBML without the triplet loss",
           "ablation", _overlay("no_triplet"), _RELABELS, (6,), "#bd9b00"),
    Method("neither", "Neither", "MBML without the triplet loss and without relabelling",
           "ablation", _overlay("neither"), ("bcq",), (6,), "#e0702c"),
    Method("ground_truth", "True rewards", "MBML, relabelled with the true reward functions instead of learned ones",
           "ablation", _overlay("ground_truth"), ("bcq",), (6,), "#14a0b8", physics="shared"),
    Method("no_ensemble", "No ensemble", "MBML, relabelled by one network instead of an ensemble",
           "ablation", _overlay("no_ensemble"), _RELABELS, (12,), "#9a7050"),
    *(
        Method(f"margin_{m}", f"Margin {m}", f"MBML with a triplet margin of {m} instead of 2",
               "ablation", f"{_MBML} --method margin_{m} --model.hooks.triplet.margin={m}", _RELABELS, (11,), colour)
        for m, colour in ((0, "#8fa62b"), (4, "#c77a9b"), (8, "#6f78c9"))
    ),
    Method("focal", "FOCAL", "distance metric learning on the tasks' own transitions, without relabelling",
           "ablation", _overlay("focal"), ("bcq",), (), "#e05fb0"),
    Method("unicorn_sup", "UNICORN-SUP", "a classifier of the training tasks trains the encoder, without relabelling",
           "ablation", _overlay("unicorn_sup"), ("bcq",), (), "#7a8f2a"),
    Method("unicorn_ss", "UNICORN-SS",
           "reconstruction of rewards and next states beside FOCAL's metric, without relabelling",
           "ablation", _overlay("unicorn_ss"), ("bcq",), (), "#5c63d6"),
    Method("multi_task_bc", "Multi-task BC", "behaviour cloning of all batches, given the task identity",
           "method", "fit -c conf/multi_task_bc.yaml", ("sac",), (), "#4f9a3c"),
    Method("bcq", "BCQ", "the teachers: one policy a train task, each on its own task",
           "reference", "fit -c conf/bcq.yaml", ("sac",), (4,), GREY, "--"),
    Method("sac", "SAC", "the collectors: one policy a train task, each on its own task",
           "reference", "fit -c conf/sac.yaml", (), (4,), GREY, ":"),
    Method("sac_test", "SAC on unseen tasks", "one policy an unseen task, each trained online on its own task",
           "collector", "fit -c conf/sac.yaml -c conf/split/test.yaml", (), (4,), GREY, (0, (7, 2))),
    Method("sac_ood", "SAC on tasks out of distribution",
           "one policy a task out of distribution, each trained online on its own task",
           "collector", "fit -c conf/sac.yaml -c conf/split/ood.yaml", (), (4,), GREY, (0, (1, 3))),
    Method("best_teacher", "Best teacher",
           "the one teacher that returns most on all train tasks together, on every task: nothing is inferred",
           "reference", "validate -c conf/best_teacher.yaml", ("bcq",), (), GREY, (0, (3, 1, 1, 1))),
    Method("random", "Random", "actions drawn uniformly",
           "reference", "validate -c conf/random.yaml", (), (4,), GREY, "-."),
    Method("reward_ensemble", "Reward ensembles", "predict the rewards of every train task",
           "ensemble", "fit -c conf/reward_ensemble.yaml", ("sac",), (7,)),
    Method("next_state_ensemble", "Next-state ensembles", "predict the next states of every train task",
           "ensemble", "fit -c conf/next_state_ensemble.yaml", ("sac",), physics="varied"),
):  # fmt: skip
    register(_method)
