"""Where transitions live, how a batch of K tasks is drawn, and relabelling."""
