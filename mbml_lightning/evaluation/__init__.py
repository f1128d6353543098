"""Adaptation of a policy to tasks that it does not know (Algorithm 5), and its measures."""
