"""Context protocols of the field, explained to a reader."""

SENTENCES = {
    "prior-online": "only its own episodes, the first one acted from the prior; the paper's protocol.",
    "offline-own": "context collected before the trial by a policy that was trained on this very task; whoever "
    "chose that policy knew the task.",
    "offline-other": "context collected in this task by another task's policy; states suggest one task and rewards "
    "say another, the trap for an encoder that ignores rewards.",
    "random-first": "only its own episodes, the first one acted uniformly at random.",
}
