"""The header of a checkpoint of ours: its format, and the sizes of a network that is not the release's."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

from safetensors import SafetensorError, safe_open

from spm_rt.errors import CheckpointError, SettingsError
from spm_rt.settings import ModelSpec, from_json, to_json

FORMAT = "spm_rt checkpoint 1"


def header(spec: ModelSpec) -> dict[str, str]:
    """The entries of a model's checkpoint."""
    told = {} if spec == ModelSpec() else {"model": json.dumps(to_json(spec))}
    return {**told, "format": FORMAT}


def stored_spec(paths: Sequence[str | os.PathLike[str]]) -> ModelSpec:
    """What a checkpoint of ours says that its network looks like; the release's where it says nothing.

    Raises:
        CheckpointError: it says what makes no sense.
    """
    if len(paths) != 1:
        return ModelSpec()
    try:
        with safe_open(paths[0], framework="pt") as file:
            text = (file.metadata() or {}).get("model")
    except (SafetensorError, OSError, ValueError):  # another container; who reads the weights says what is wrong
        return ModelSpec()
    try:
        return from_json(ModelSpec, json.loads(text)) if text else ModelSpec()
    except (ValueError, SettingsError) as error:
        raise CheckpointError(f"{paths[0]}: its header says nothing sensible of the network ({error})") from error


def is_ours(path: Path) -> bool:
    """Whether a file is a checkpoint that was written here."""
    try:
        with safe_open(path, framework="pt") as file:
            return (file.metadata() or {}).get("format") == FORMAT
    except (SafetensorError, OSError, ValueError):
        return False
