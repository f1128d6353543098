"""Transitions in memory: batches of K tasks, collection, and relabelling."""
