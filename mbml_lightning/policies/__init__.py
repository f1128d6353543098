"""How trained networks act: (s, z, noise) -> a, and nothing else."""
