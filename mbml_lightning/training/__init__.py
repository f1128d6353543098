"""Lightning's side of a method: training, stopping, resuming, logging and evaluating."""
