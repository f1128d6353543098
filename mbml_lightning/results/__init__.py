"""Numbers: the runs of an experiment, their scores and statistics."""
