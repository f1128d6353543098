"""Networks as pure modules: no data, no Lightning."""
