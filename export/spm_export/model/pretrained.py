"""A backbone's ImageNet weights from a file of arrays by name, as PyTorch lays them out."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from spm_rt.errors import CheckpointError

from .backbones import Lite0
from .network import SPMTracker

LITE0_DEVIATION = 128.0
"""EfficientNet-Lite's pixels are RGB, less 127, divided by this."""


def load_backbone(model: SPMTracker, path: str | os.PathLike[str]) -> None:
    """Give a model's backbone the weights of an npz file.

    Of EfficientNet-Lite0 the layers that are used are taken, and the first one is turned to BGR and to undivided
    pixels; its file may hold more. AlexNet's file has conv1 to conv5 in the form in which they are used.

    Raises:
        CheckpointError: it cannot be read, or its tensors are not the backbone's.
    """
    net = model.backbone
    try:
        with np.load(path, allow_pickle=False) as arrays:
            state = {name: arrays[name].astype(np.float32) for name in arrays.files}
        if isinstance(net, Lite0):
            state = _as_used(net, state)
        new = {name: torch.from_numpy(array) for name, array in state.items()}
        kept = net.state_dict() if isinstance(net, Lite0) else {}
        net.load_state_dict({**kept, **new})
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path}: not the weights of {model.spec.backbone} ({error})") from error


def _as_used(net: Lite0, state: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    wanted = [name for name in net.state_dict() if name.startswith(("stem.", "blocks."))]
    state = {name: state[name] for name in wanted}
    stem = state["stem.weight"][:, ::-1] / np.float32(LITE0_DEVIATION)
    return {**state, "stem.weight": np.ascontiguousarray(stem)}
