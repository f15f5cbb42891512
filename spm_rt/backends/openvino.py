"""OpenVINO: float32 on any x86-64 or Arm CPU, latency mode."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import Bundle
from ..errors import BackendError
from . import Template, copy_template, paste_template, usable_cores

Floats = NDArray[np.float32]

RELATION_SIZE = 9
"""Proposals per relation call: OpenVINO is slow with open shapes, so fewer are filled up, and more compile anew."""


def load(bundle: Bundle, *, device: str, threads: int | None, targets: int) -> OpenVinoBackend:
    return OpenVinoBackend(bundle, device=device, threads=threads, targets=targets)


class OpenVinoBackend:
    """One compiled model per graph, shared by all contexts; each context has its own inference requests."""

    name = "openvino"

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None, targets: int = 1) -> None:
        import openvino

        self._library: Any = openvino
        self._core = openvino.Core()
        self.spec = bundle.spec
        self.targets = targets
        self._device = device.upper()
        if self._device.split(".")[0] not in {name.split(".")[0] for name in self._core.available_devices}:
            have = ", ".join(self._core.available_devices)
            raise BackendError(f"device {device!r}: this openvino has {have}")
        # float32 is said aloud: on CPUs with AMX the default would be bfloat16.
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
        count = threads or usable_cores()
        if self._device == "CPU":
            self._options["INFERENCE_NUM_THREADS"] = count
        self._relation_file = bundle.graph("relation", targets=targets, variant="fast")
        self._template_file = bundle.graph("template", targets=targets, variant="fast")
        # With several targets, templates are made one by one, on a backend for one target: nobody may want this one.
        self._template = self._compile(self._template_file) if targets == 1 else None
        self.search = self._compile(bundle.graph("search", targets=targets, variant="fast"))
        self._relations: dict[int, Any] = {}
        self.relation(RELATION_SIZE)
        version = openvino.__version__.split("-")[0]
        self.description = f"openvino {version}, {self._device}, float32, {count} threads"

    def context(self) -> OpenVinoContext:
        return OpenVinoContext(self)

    def template(self) -> Any:
        """The template graph, compiled when it is first asked for."""
        if self._template is None:
            self._template = self._compile(self._template_file)
        return self._template

    def relation(self, count: int) -> Any:
        """The relation graph for exactly ``count`` proposals."""
        if count not in self._relations:
            self._relations[count] = self._compile(self._relation_file, {"proposals": [self.targets, count, 4]})
        return self._relations[count]

    def tensor(self, array: Floats) -> Any:
        """An OpenVINO tensor on the same memory."""
        return self._library.Tensor(array, shared_memory=True)

    def _compile(self, path: Any, shapes: dict[str, list[int]] | None = None) -> Any:
        try:
            model = self._core.read_model(str(path))
            if shapes:
                model.reshape(shapes)
            return self._core.compile_model(model, self._device, self._options)
        except RuntimeError as error:
            raise BackendError(f"{path}: openvino {self._library.__version__} cannot load it: {error}") from error


class OpenVinoContext:
    """Inference requests on shared buffers: what search writes, relation reads in place."""

    def __init__(self, backend: OpenVinoBackend) -> None:
        self._backend = backend
        spec, targets = backend.spec, backend.targets
        self._arrays: dict[str, Floats] = {}
        self.crop: Floats = self._array("crop", (targets, 3, spec.crop_size, spec.crop_size))
        self._array("target_half", (targets, 256, spec.roi_cells, spec.roi_cells))
        self._template: Any = None
        self._search = self._request(backend.search)
        self._relations: dict[int, tuple[Any, Floats]] = {}

    def set_template(self, box: Floats) -> None:
        if self._template is None:
            self._template = self._request(self._backend.template())
        self._arrays["box"][:] = box
        self._template.infer()

    def search(self) -> tuple[Floats, Floats]:
        self._search.infer()
        return self._arrays["scores"], self._arrays["boxes"]

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count = proposals.shape[1]
        size = max(RELATION_SIZE, count)
        if size not in self._relations:
            given = np.zeros((len(self.crop), size, 4), np.float32)
            request = self._backend.relation(size).create_infer_request()
            for name in ("shallow", "deep", "target_half"):
                request.set_tensor(name, self._backend.tensor(self._arrays[name]))
            request.set_tensor("proposals", self._backend.tensor(given))
            self._relations[size] = request, given
        request, given = self._relations[size]
        given[:, :count] = proposals
        given[:, count:] = proposals[:, -1:]
        request.infer()
        scores, boxes = (np.asarray(request.get_tensor(name).data) for name in ("scores", "boxes"))
        return scores[:, :count].copy(), boxes[:, :count].copy()

    def template(self) -> Template:
        return copy_template(self._arrays)

    def put_template(self, slot: int, template: Template) -> None:
        paste_template(self._arrays, slot, template)

    def _request(self, compiled: Any) -> Any:
        """A request of a compiled graph on this context's buffers, made where there is none of that name yet."""
        request = compiled.create_infer_request()
        for port in (*compiled.inputs, *compiled.outputs):
            name = port.get_any_name()
            if name not in self._arrays:
                self._array(name, tuple(port.shape))
            request.set_tensor(name, self._backend.tensor(self._arrays[name]))
        return request

    def _array(self, name: str, shape: tuple[int, ...]) -> Floats:
        self._arrays[name] = np.zeros(shape, np.float32)
        return self._arrays[name]
