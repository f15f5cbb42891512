"""From the frame that a caller has, on the host or on the GPU, to the crop that a context reads."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.protocol import Backend, Context, DeviceFrameContext
from ..frame.crop import Frame, MeanColor, Scratch, check_frame, crop_into
from ..frame.geometry import Region
from ..gpu.device_frames import DeviceFrame, is_device_array, refused

AnyFrame = Any
"""A numpy array (:func:`spm_rt.frame.crop.check_frame`), or an array on the GPU (:mod:`spm_rt.gpu.device_frames`)."""


def take_frame(frame: AnyFrame, context: Context, backend: Backend) -> Frame | DeviceFrame:
    """A frame that ``context`` can be shown, or a FrameError that says what is wrong. Nothing is copied."""
    if isinstance(frame, np.ndarray) or not is_device_array(frame):
        return check_frame(frame)
    if not isinstance(context, DeviceFrameContext):
        raise refused(frame, backend.name)
    return context.device_frame(frame)


def write_crop(
    frame: Frame | DeviceFrame,
    region: Region,
    context: Context,
    slot: int,
    scratch: Scratch,
    mean: MeanColor | None = None,
) -> None:
    """Make what ``region`` of the frame shows the input of a context's slot: on the device, or in ``crop``.

    Args:
        frame: of :func:`take_frame`, with a context of the same backend.
        region: in frame pixels.
        context: whose next ``set_template`` or ``search`` reads it.
        slot: 0 to T - 1. All slots of a call are shown frames from the same side.
        scratch, mean: see :func:`spm_rt.frame.crop.crop_into`.

    Raises:
        FrameError: see :func:`spm_rt.frame.crop.crop_into`.
    """
    if isinstance(frame, DeviceFrame):
        assert isinstance(context, DeviceFrameContext)
        context.crop_device(frame, region, slot)
        return
    crop_into(frame, region, context.crop[slot], scratch, mean)
    if getattr(context, "on_device", False):
        context.on_device = False  # type: ignore[attr-defined]
