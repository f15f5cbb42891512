"""Some of a GPU's multiprocessors, as a smaller card would have them: a green context of the driver.

Work on a partition's stream runs on its multiprocessors alone. Memory and caches stay the whole card's.
"""

from __future__ import annotations

import weakref
from typing import Any

from ..errors import BackendError
from .driver import NON_BLOCKING, Device, Stream, quietly

_DEFAULT_STREAM = 1  # CU_GREEN_CTX_DEFAULT_STREAM, the only way to make one


class Partition:
    """Multiprocessors of a GPU that belong together.

    Args:
        device: whose they are.
        multiprocessors: how many at least; the card rounds up (Hopper to a multiple of 8).

    Attributes:
        multiprocessors: how many there are.
        whole: how many the card has.

    Raises:
        BackendError: the card does not have so many.
        CudaError: the driver knows no green contexts (it does from 12.4 on).
    """

    def __init__(self, device: Device, multiprocessors: int) -> None:
        self.device, self._call = device, device.driver
        kind = self._call.library.CUdevResourceType.CU_DEV_RESOURCE_TYPE_SM
        card = self._call("cuDeviceGetDevResource", device.handle, kind)
        self.whole = int(card.sm.smCount)
        if not 1 <= multiprocessors < self.whole:
            raise BackendError(
                f"{device.name} has {self.whole} multiprocessors: a part of it has 1 to {self.whole - 1}"
            )
        (part, *_), *_ = self._call("cuDevSmResourceSplitByCount", 1, card, 0, multiprocessors)
        self.multiprocessors = int(part.sm.smCount)
        description = self._call("cuDevResourceGenerateDesc", [part], 1)
        self._context: Any = self._call("cuGreenCtxCreate", description, device.handle, _DEFAULT_STREAM)
        weakref.finalize(self, quietly, self._call, "cuGreenCtxDestroy", self._context)

    def stream(self) -> Stream:
        """A stream whose work runs here: what is captured from it, launched on it and waited for on it."""
        made = self._call("cuGreenCtxStreamCreate", self._context, NON_BLOCKING, 0)
        stream = Stream(self.device, int(made))
        stream.partition = self  # which must not end before it
        weakref.finalize(stream, quietly, self._call, "cuStreamDestroy", made)
        return stream
