"""Checkpoints as data: read without unpickling, and refused where they do not belong."""

import pickle
from pathlib import Path
from typing import Any

import torch

CHECKPOINT_KEY = "mbml"
"""Where a checkpoint says what it is of."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, said in one line that names the file and the remedy."""


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """All of a checkpoint, on the CPU; nothing in it is run.

    Raises:
        CheckpointError: If there is none, or it is damaged or not one of ours.
    """
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise CheckpointError(f"{path}: no such checkpoint: run the phase that writes it first") from None
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path}: damaged or no checkpoint ({reason}): train again") from error
    if not isinstance(checkpoint, dict) or CHECKPOINT_KEY not in checkpoint or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path}: not a checkpoint of this package: give the last.ckpt of a run")
    return checkpoint | {"path": str(path)}


def check_made_by(checkpoint: dict[str, Any], **expected: str) -> None:
    """Compare what a checkpoint is of (``method``, ``distribution``) with what is expected.

    Raises:
        CheckpointError: If they differ.
    """
    made = checkpoint.get(CHECKPOINT_KEY, {})
    for field, own in expected.items():
        if made.get(field) != own:
            raise CheckpointError(
                f"{checkpoint.get('path', 'the checkpoint')}: {field} is {made.get(field)}, {own} is needed: "
                "give another checkpoint or change the configuration"
            )
