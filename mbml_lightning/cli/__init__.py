"""The command ``mbml`` and its configuration."""
