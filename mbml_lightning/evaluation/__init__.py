"""Acting on tasks, scores and their uncertainty, and the report."""
