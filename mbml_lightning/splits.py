"""Names of the official task sets, which data, files and tables have in common."""

SPLITS = ("train", "test", "ood")
"""To learn from, unseen ones, and unseen ones out of the training distribution."""
