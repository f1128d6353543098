"""What methods are called, in the order in which a report shows them."""

LABELS = {
    "mbml": "MBML",
    "contextual_bcq": "Contextual BCQ",
    "pearl": "PEARL",
    "no_relabelling": "No relabelling",
    "no_triplet": "No triplet",
    "neither": "Neither",
    "ground_truth": "True rewards",
    "no_ensemble": "No ensemble",
    "margin_0": "Margin 0",
    "margin_4": "Margin 4",
    "margin_8": "Margin 8",
    "focal": "FOCAL",
    "unicorn_sup": "UNICORN-SUP",
    "unicorn_ss": "UNICORN-SS",
    "multi_task_bc": "Multi-task BC",
    "bcq": "BCQ",
    "sac": "SAC",
    "sac_test": "SAC on unseen tasks",
    "sac_ood": "SAC on tasks out of distribution",
    "random": "Random",
}
DESCRIPTIONS = {
    "mbml": "one policy for all tasks, which infers the task from its own episodes",
    "contextual_bcq": "BCQ on all tasks' transitions, given the task identity; its losses train the encoder",
    "pearl": "soft actor-critic given the task identity, trained from the batches",
    "no_relabelling": "MBML with triplets of the hardest pairs of contexts instead of relabelled ones",
    "no_triplet": "MBML without the triplet loss",
    "neither": "MBML without the triplet loss and without relabelling",
    "ground_truth": "MBML, relabelled with the true reward functions instead of learned ones",
    "no_ensemble": "MBML, relabelled by one network instead of an ensemble",
    "margin_0": "MBML with a triplet margin of 0 instead of 2",
    "margin_4": "MBML with a triplet margin of 4 instead of 2",
    "margin_8": "MBML with a triplet margin of 8 instead of 2",
    "focal": "distance metric learning on the tasks' own transitions, without relabelling",
    "unicorn_sup": "a classifier of the training tasks trains the encoder, without relabelling",
    "unicorn_ss": "reconstruction of rewards and next states beside FOCAL's metric, without relabelling",
    "multi_task_bc": "behaviour cloning of all batches, given the task identity",
    "bcq": "the teachers: one policy a train task, each on its own task",
    "sac": "the collectors: one policy a train task, each on its own task",
    "sac_test": "one policy an unseen task, each trained online on its own task",
    "sac_ood": "one policy a task out of distribution, each trained online on its own task",
    "random": "actions drawn uniformly",
}
REFERENCES = ("bcq", "sac", "sac_test", "sac_ood", "random")
NOT_ACTING = ("reward_ensemble", "next_state_ensemble")


def place(method: str) -> tuple[int, int, str]:
    """Key of the row order: as in ``LABELS``, methods that it does not know before the references."""
    if method in REFERENCES:
        return (2, REFERENCES.index(method), method)
    return (0, [*LABELS].index(method), method) if method in LABELS else (1, 0, method)
