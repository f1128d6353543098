"""Policies: trained networks that turn (s, z, noise) into actions, and nothing else."""
