"""Inference backends behind one small interface.

A backend belongs to one bundle and one device and owns the compiled graphs; a context belongs to one tracker and owns
its template, feature maps and buffers. Features never cross this border: a context keeps what ``search`` produced where
its device likes it, and ``relate`` reads it there.

To add a backend, write a module with a function ``load(bundle, *, device, threads, targets) -> Backend`` and name it in
``MODULES`` (docs/architecture.md has the recipe).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..device_frames import DeviceFrame
from ..errors import BackendError
from ..geometry import Region

Floats = NDArray[np.float32]

Template = Mapping[str, Any]
"""A target's template: the template graph's outputs without the leading axis, where and how the backend likes them."""

TEMPLATE_NAMES = ("head_kernel", "head_bias", "target_half")


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


# Name -> (module here, library it needs), in the order in which "auto" prefers them.
MODULES = {
    "onnxruntime": ("onnxruntime", "onnxruntime"),
    "openvino": ("openvino", "openvino"),
    "pytorch": ("torch_cuda", "torch"),
    "tensorrt": ("tensorrt", "tensorrt"),
    "tensorrt-rtx": ("tensorrt_rtx", "tensorrt_rtx"),
}
ON_CPU = ("onnxruntime", "openvino")
"""Those that "auto" chooses among on CPUs."""


PRECISIONS = {"onnxruntime": ("float32",), "openvino": ("float32", "bf16")}
"""What a backend can compute float32 graphs in. int8 is another bundle: ``spm-export --precision int8``."""


def available() -> list[str]:
    """Names of the backends whose library is installed, best first. Nothing is imported."""
    return [name for name, (_, library) in MODULES.items() if importlib.util.find_spec(library) is not None]


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def release_memory() -> None:
    """Give back to the system what the C library keeps of freed memory: over 100 MB after a compilation."""
    import ctypes

    with contextlib.suppress(OSError, AttributeError, TypeError):  # there is such a call in glibc only
        ctypes.CDLL(None).malloc_trim(0)


def load_backend(
    bundle: Bundle,
    name: str = "auto",
    *,
    device: str = "cpu",
    threads: int | None = None,
    targets: int = 1,
    precision: str | None = None,
) -> Backend:
    """Compile a bundle's graphs.

    Args:
        bundle: a verified bundle.
        name: a key of ``MODULES``, or ``auto``: on CPUs the fastest (:mod:`spm_rt.backends.auto`; see
            :func:`chosen_because`), elsewhere the first whose library is installed.
        device: ``cpu``, ``cuda``, ``cuda:1``, or a name that the backend's library knows.
        threads: threads per inference call; by default as many as the process may use cores.
        targets: leading axis of every tensor.
        precision: what float32 graphs are computed in, where a backend offers a choice (``PRECISIONS``).

    Raises:
        BackendError: unknown, not installed, or the device or precision was not to be had.
    """
    if threads is not None and threads < 1:
        raise BackendError(f"threads is {threads}; it must be 1 or more")
    how: dict[str, Any] = {"device": device, "threads": threads, "targets": targets}
    if precision is not None:
        how["precision"] = precision
        if precision not in {one for offered in PRECISIONS.values() for one in offered}:
            raise BackendError(f"precision {precision!r} is unknown; there are: float32, bf16 (int8 is a bundle's own)")
        if bundle.manifest["precision"] != "float32":
            raise BackendError(f"{bundle.path}: its graphs are {bundle.manifest['precision']}; no other precision fits")
    if name != "auto":
        return _load(bundle, name, how)
    names = [one for one in available() if precision in (None, *PRECISIONS.get(one, ("float32",)))]
    if not names and available():
        have = ", ".join(available())
        raise BackendError(f"precision {precision!r}: of what is installed ({have}), nothing offers it")
    if not names:
        wanted = " or ".join(f"`pip install {library}`" for _, library in MODULES.values())
        raise BackendError(f"no inference library is installed: {wanted}")
    rivals = [name for name in names if name in ON_CPU] if device.lower() == "cpu" else []
    if not rivals:
        return _load(bundle, names[0], how)
    from .auto import choose

    libraries = {name: library for name, (_, library) in MODULES.items()}
    facts = {**how, "threads": threads or usable_cores()}
    backend, reason = choose(bundle, rivals, libraries, facts, lambda rival: _load(bundle, rival, how))
    backend.chosen_because = reason  # type: ignore[attr-defined]
    return backend


def chosen_because(backend: Backend) -> str:
    """Why ``auto`` took this backend, in words; empty if it did not."""
    return str(getattr(backend, "chosen_because", ""))


def _load(bundle: Bundle, name: str, how: Mapping[str, Any]) -> Backend:
    if name not in MODULES:
        raise BackendError(f"backend {name!r} is unknown; there are: auto, {', '.join(MODULES)}")
    module, library = MODULES[name]
    if importlib.util.find_spec(library) is None:
        raise BackendError(f"backend {name!r} needs the package {library}: `pip install {library}`")
    precision = how.get("precision", "float32")
    if precision not in PRECISIONS.get(name, ("float32",)):
        others = ", ".join(one for one, offered in PRECISIONS.items() if precision in offered)
        raise BackendError(f"backend {name!r} does not offer precision {precision!r}; {others} does")
    loader: Any = importlib.import_module(f"{__name__}.{module}")
    backend: Backend = loader.load(bundle, **how)
    return backend


def copy_template(arrays: Mapping[str, Floats]) -> dict[str, Floats]:
    """:meth:`SlotContext.template` of a backend whose buffers are numpy arrays by the graphs' names, leading axis 1."""
    return {name: arrays[name][0].copy() for name in TEMPLATE_NAMES}


def paste_template(arrays: Mapping[str, Floats], slot: int, template: Template) -> None:
    """:meth:`SlotContext.put_template` of such a backend."""
    for name in TEMPLATE_NAMES:
        arrays[name][slot] = template[name]
