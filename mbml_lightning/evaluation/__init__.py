"""How a policy meets tasks that it does not know (Algorithm 5)."""
