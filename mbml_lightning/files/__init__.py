"""All that a run leaves on disk: formats, writing, reading, rejecting."""
