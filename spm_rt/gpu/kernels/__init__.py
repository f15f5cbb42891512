"""The project's own GPU kernels: their source, the layout of what they read and write, and how each is launched.

The arithmetic is in the headers beside this file and is that of the runtime's Python, operation by operation
(:mod:`spm_rt.frame.crop`, :mod:`spm_rt.frame.proposals`, :mod:`spm_rt.frame.fusion`) and of the RoI operator
(docs/notes/model.md, "Sampling"). The same lines are compiled for the host by the tests (tests/gpu/), which compare
them with those modules. :mod:`spm_rt.gpu.kernels.nvrtc` compiles them for a device. docs/notes/gpu.md says what has
been run where.
"""

from __future__ import annotations

import ctypes
import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import BackendError
from ...frame.fusion import RIVALS
from ...settings import MODES, ModelSpec, TrackerSettings

FOLDER = Path(__file__).parent

ROI_THREADS = 288
ROI_BLOCK_CHANNELS = 32
"""Channels that a block of the RoI kernel makes."""
CROP_THREADS = 256
SUM_THREADS = 256
SUM_BLOCKS = 128
SELECT_THREADS = 512
FUSE_THREADS = 64
MAX_ANCHORS = 1805
MAX_CANDIDATES = 64

STATE = np.dtype([("box", "f8", 4), ("region", "f8", 4), ("scale", "f8"), ("extent", "f8", 4), ("sum", "u8", 3)])
"""One target on the device (``spm::State`` in geometry.h). A box of zeros: an empty slot."""

_FLOATS = ("near_iou", "score_floor", "nms_threshold", "fine_score_weight", "fine_box_weight", "window_influence")
SETTINGS = np.dtype(
    [(name, "f8") for name in ("context_amount", "size_rate", "update_threshold", "min_side")]
    + [(name, "f4") for name in _FLOATS]
    + [(name, "i4") for name in ("template_size", "crop_size", "mode", "candidates", "near_candidates", "anchors")]
)
"""How it is tracked (``spm::Settings``)."""

RESULT = np.dtype(
    [("box", "f8", 4)]
    + [(name, "f4") for name in ("score", "coarse_score", "fine_score")]
    + [(name, "i4") for name in ("chosen", "rival_count")]
    + [("rival_score", "f4")]
    + [("rivals", "f4", (RIVALS, 4))]
)
"""What one frame gave (``spm::Result``): 184 bytes, all that comes back from the device in the resident mode."""

DATA_TYPES = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}


@dataclasses.dataclass(frozen=True)
class Launch:
    """A kernel's name, blocks (x, y, z) and threads per block."""

    name: str
    blocks: tuple[int, int, int]
    threads: int


@dataclasses.dataclass(frozen=True)
class InputForm:
    """How a network's first layer reads crops (``spm::InputForm`` in input.h).

    Attributes:
        data: type of values, one of ``DATA_TYPES``.
        planes: three colours, and planes of zeros behind them.
        channels_last: ``[T, S, S, planes]`` instead of ``[T, planes, S, S]``.
        mean: address of float32 ``[3]``, which is taken off; 0: nothing is.
    """

    data: str = "float32"
    planes: int = 3
    channels_last: bool = False
    mean: int = 0

    @property
    def arguments(self) -> tuple[Any, ...]:
        """What ``spm_crop_*`` wants to know of it."""
        return ctypes.c_void_p(self.mean), ctypes.c_int(self.planes), ctypes.c_int(self.channels_last)


UNITS = ("roi", "frame", "layers")
"""The RoI operator alone; everything around the networks: crop, proposals, fusion; what lies between a network's
products: bias, pooling, normalisation, decoding."""


def source(unit: str) -> str:
    """The kernels of one of :data:`UNITS` as a CUDA C++ text that includes nothing, as NVRTC wants it."""
    done: set[str] = set()

    def expand(name: str) -> str:
        text = (FOLDER / name).read_text(encoding="utf-8").replace("#pragma once\n", "")

        def include(match: re.Match[str]) -> str:
            if match[1] in done:
                return ""
            done.add(match[1])
            return expand(match[1])

        return re.sub(r'^#include "(\w+\.h)"\n', include, text, flags=re.MULTILINE)

    # What only the host needs is passed over by the preprocessor, but system headers must not even be named.
    return re.sub(r"^#include <\w+>\n", "", expand(f"{unit}.cu"), flags=re.MULTILINE)


def settings_record(spec: ModelSpec, settings: TrackerSettings) -> NDArray[Any]:
    """Both kinds of settings as one :data:`SETTINGS` record, shape ``[1]``.

    Raises:
        BackendError: more anchors than the proposal kernel has room for.
    """
    if spec.anchor_count > MAX_ANCHORS:
        raise BackendError(f"{spec.anchor_count} anchors; the proposal kernel has room for {MAX_ANCHORS}")
    record = np.zeros(1, SETTINGS)
    for name in SETTINGS.names or ():
        for owner in (spec, settings):
            if name != "mode" and hasattr(owner, name):
                record[name] = getattr(owner, name)
    record["mode"] = MODES.index(settings.mode)
    record["candidates"], record["near_candidates"] = settings.num_candidates, settings.num_near_candidates
    record["anchors"] = spec.anchor_count
    return record


def roi_fits(spec: ModelSpec) -> bool:
    """Whether the RoI kernel computes what a model needs: 6 by 6 samples of maps of stride 8, 32 channels by 32."""
    own, channels = ModelSpec(), (spec.deep_channels, spec.shallow_channels)
    alike = all(getattr(spec, name) == getattr(own, name) for name in ("roi_cells", "stride"))
    return alike and not any(count % ROI_BLOCK_CHANNELS for count in channels)


def roi_launch(proposals: int, channels: int, data: str = "float32") -> Launch:
    """``spm_roi_*`` on ``proposals`` boxes in all.

    Args:
        proposals: how many, of all targets.
        channels: of both maps together.
        data: the maps' and the output's type, one of ``DATA_TYPES``.
    """
    parts = -(-channels // ROI_BLOCK_CHANNELS)
    return Launch(f"spm_roi_{DATA_TYPES[data]}", (proposals, parts, 1), ROI_THREADS)


def begin_launch(targets: int = 1) -> Launch:
    """``spm_begin``: the search regions around the last boxes of ``targets`` targets."""
    return Launch("spm_begin", (targets, 1, 1), 1)


def sum_launch(targets: int = 1) -> Launch:
    """``spm_frame_sum``: the frame's mean colour, where a region leaves the frame; once for all targets."""
    return Launch("spm_frame_sum", (SUM_BLOCKS, targets, 1), SUM_THREADS)


def crop_launch(size: int, data: str = "float32", targets: int = 1) -> Launch:
    """``spm_crop_*``: a crop of ``size`` x ``size`` pixels for each target."""
    return Launch(f"spm_crop_{DATA_TYPES[data]}", (-(-size * size // CROP_THREADS), targets, 1), CROP_THREADS)


def select_launch(targets: int = 1) -> Launch:
    """``spm_select``: proposals of ``targets`` targets."""
    return Launch("spm_select", (targets, 1, 1), SELECT_THREADS)


def fuse_launch(targets: int = 1) -> Launch:
    """``spm_fuse``: choice and new box of ``targets`` targets."""
    return Launch("spm_fuse", (targets, 1, 1), FUSE_THREADS)
