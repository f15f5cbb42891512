"""TensorRT's engines for the resident trackers: a whole frame, with our kernels around them, as one CUDA graph."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

from ...bundle import Bundle
from ...errors import BackendError
from ...gpu.kernels import InputForm
from .backend import TensorRtBackend


def make_networks(
    bundle: Bundle, *, device: str, precision: str | None, library: str = "tensorrt"
) -> Callable[[int], TensorRtNetworks]:
    """What makes networks by number of targets; the engines for each number are loaded once."""
    if precision is not None:
        raise BackendError(f"{library}: an engine's precision is its bundle's (spm-export --precision)")

    @functools.cache
    def engines(targets: int) -> TensorRtBackend:
        return TensorRtBackend(bundle, device=device, targets=targets, library=library)

    return lambda targets: TensorRtNetworks(engines(targets))


class TensorRtNetworks:
    """A context's engines; see :class:`spm_rt.backends.protocol.Networks`."""

    def __init__(self, backend: TensorRtBackend) -> None:
        self._context = context = backend.context()
        self.device, self.stream = backend.device, context.stream
        self.targets, self.candidates, self.input_form = backend.targets, backend.count, InputForm()
        self.template, self.put_template = context.template, context.put_template
        self.set_template, self.capture = context.make_template, context.capture
        fine = {f"fine_{name}": address for name, address in context.answers("relation").items()}
        own = {name: context.addresses[name] for name in ("crop", "proposals")}
        self.addresses: Mapping[str, int] = {**own, **context.answers("search"), **fine}

    def search(self) -> None:
        self._context.enqueue("search")

    def relate(self) -> None:
        self._context.enqueue("relation")
