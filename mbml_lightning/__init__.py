"""MBML: multi-task batch reinforcement learning with metric learning (NeurIPS 2020), on PyTorch Lightning."""

__version__ = "0.1.0"
