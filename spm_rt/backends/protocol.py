"""What every backend offers: a backend owns the compiled graphs, a context one tracker's state on them.

A backend belongs to one bundle and one device; a context belongs to one tracker and owns its template, feature maps and
buffers. Features never leave a context: it keeps what ``search`` produced where its device likes it, and ``relate``
reads it there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..bundle.contract import TEMPLATE_NAMES
from ..frame.geometry import Region
from ..gpu.device_frames import DeviceFrame

if TYPE_CHECKING:
    from ..gpu.driver import Device, Stream
    from ..gpu.kernels import InputForm

Floats = NDArray[np.float32]

Template = Mapping[str, Any]
"""A target's template: the template graph's outputs without the leading axis, where and how the backend likes them."""


class Context(Protocol):
    """One tracker's state on a device. All arrays are float32; T is the number of targets."""

    crop: Floats
    """[T, 3, 271, 271]: write a crop here (BGR, 0..255), then call ``set_template`` or ``search``."""

    def set_template(self, box: Floats) -> None:
        """Take the crop as the template; ``box`` ``[T, 4]`` is the target in crop pixels."""

    def search(self) -> tuple[Floats, Floats]:
        """Coarse scores ``[T, N]`` and boxes ``[T, N, 4]`` (crop pixels) of the crop; valid until the next search."""

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        """Fine scores ``[T, K]`` and boxes ``[T, K, 4]`` of proposals ``[T, K, 4]``, on the last search's features."""


@runtime_checkable
class SlotContext(Context, Protocol):
    """A context whose templates can be moved from slot to slot: what ``MultiTracker`` needs."""

    def template(self) -> Template:
        """A copy of what ``set_template`` made, for ``put_template``; of a context for one target."""

    def put_template(self, slot: int, template: Template) -> None:
        """Make a target's template that of ``slot`` (0 to T - 1); the other slots keep theirs.

        ``template`` comes from a context for one target of a backend of the same name, bundle and device.
        """


@runtime_checkable
class DeviceFrameContext(Context, Protocol):
    """A context on a GPU that makes its input itself from frames that lie there: no frame goes by way of the host."""

    on_device: bool
    """Whether ``set_template`` and ``search`` read what ``crop_device`` made, instead of what is in ``crop``."""

    def device_frame(self, frame: Any) -> DeviceFrame:
        """What an array of another library says about itself, if it can be used here (a FrameError if not)."""

    def crop_device(self, frame: DeviceFrame, region: Region, slot: int = 0) -> None:
        """Make what ``region`` of the frame shows the input of ``slot``, and set ``on_device``.

        The frame comes from ``device_frame`` of a context of the same backend, bundle and device. It must stay as it is
        until ``set_template`` or ``search`` returns.
        """


class Backend(Protocol):
    """Compiled graphs of one bundle on one device. Contexts of one backend may be used from different threads."""

    name: str
    """``onnxruntime``, ``openvino``, ..."""
    description: str
    """Library, version, device and threads, for people."""

    def context(self) -> Context:
        """A new, independent context."""


class Load(Protocol):
    """The function ``load`` of a backend's module; all of them take the same (and an entry's own options)."""

    def __call__(
        self, bundle: Bundle, *, device: str, threads: int | None, targets: int, precision: str | None
    ) -> Backend:
        """See :func:`spm_rt.backends.load_backend`. The precision is one that the entry offers, or None."""


class Networks(Protocol):
    """The three graphs for T targets on fixed device addresses, for the resident trackers; work goes on ``stream``."""

    device: Device
    stream: Stream
    targets: int
    """T"""
    candidates: int
    """K, proposals per target"""
    input_form: InputForm
    """How ``crop`` is read."""
    addresses: Mapping[str, int]
    """``crop`` [T, 3, S, S] or as ``input_form`` says. float32: ``scores`` [T, N], ``boxes`` [T, N, 4],
    ``proposals`` [T, K, 4], ``fine_scores`` [T, K], ``fine_boxes`` [T, K, 4]"""

    def set_template(self, box: Floats) -> None:
        """Take what is in ``crop`` as the template; ``box`` ``[1, 4]`` is the target in crop pixels. For T = 1."""

    def template(self) -> Template:
        """A copy of what ``set_template`` made, complete when it is returned."""

    def put_template(self, slot: int, template: Template) -> None:
        """Make a template of networks for one target that of ``slot``; complete when it returns."""

    def search(self) -> None:
        """``crop`` -> ``scores``, ``boxes``."""

    def relate(self) -> None:
        """``proposals`` -> ``fine_scores``, ``fine_boxes``."""

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Record work as a graph; what it gives launches it. A BackendError where that cannot be done."""


class ArrayTemplates:
    """The templates' part of a :class:`SlotContext` whose buffers are numpy arrays by the graphs' names."""

    _arrays: dict[str, Floats]

    def template(self) -> Template:
        return {name: self._arrays[name][0].copy() for name in TEMPLATE_NAMES}

    def put_template(self, slot: int, template: Template) -> None:
        for name in TEMPLATE_NAMES:
            self._arrays[name][slot] = template[name]
