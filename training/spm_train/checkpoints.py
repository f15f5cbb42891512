"""Files that a run writes: its state, from which the next step can go on, and weights for ``spm-export``."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import torch

from spm_export.model.checkpoint import save_checkpoint
from spm_export.model.network import SPMTracker
from spm_rt.errors import CheckpointError
from spm_rt.files import written_whole


def save_weights(model: SPMTracker, path: Path, step: int) -> None:
    """Write a checkpoint in float16, with the number of steps in its header."""
    save_checkpoint(model, path, half=True, metadata={"step": str(step)})


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write a state; where that fails (disk full, ...) the previous one is still there and the error says so."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Through a stream: given a path, PyTorch would write the temporary file's name into the archive.
        with written_whole(path) as part, part.open("wb") as stream:
            torch.save(state, stream)
    except (OSError, RuntimeError) as error:
        kept = "the previous state is unharmed" if path.exists() else "there is no earlier one"
        raise CheckpointError(f"{path}: the state could not be written ({error}); {kept}") from error


def load_state(path: Path) -> dict[str, Any]:
    """A state that :func:`save_state` wrote."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"{path}: not a readable training state ({error})") from error
    if not isinstance(state, dict) or not {"step", "model", "average", "optimizer", "config"} <= state.keys():
        raise CheckpointError(f"{path}: not a training state of spm-train")
    return state
