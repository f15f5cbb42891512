"""ONNX Runtime: the default on CPUs, and a road to CUDA, TensorRT and others through its execution providers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..bundle import STAGES, Bundle
from ..errors import BackendError
from . import Template, copy_template, paste_template, usable_cores

Floats = NDArray[np.float32]

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}


def load(bundle: Bundle, *, device: str, threads: int | None, targets: int) -> OnnxRuntimeBackend:
    return OnnxRuntimeBackend(bundle, device=device, threads=threads, targets=targets)


class OnnxRuntimeBackend:
    """One session per graph; sessions are shared by all contexts and safe to call from several threads.

    ``device`` is ``cpu``, ``cuda``, ``cuda:INDEX``, ``tensorrt`` or any provider's full name. ONNX Runtime falls back
    to the CPU without a word when a provider cannot be had; here that is an error.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None, targets: int = 1) -> None:
        import onnxruntime

        self._library: Any = onnxruntime
        self.spec = bundle.spec
        self.targets = targets
        provider, index = _provider(device)
        if provider not in onnxruntime.get_available_providers():
            have = ", ".join(onnxruntime.get_available_providers())
            raise BackendError(f"device {device!r}: this onnxruntime has no {provider} (it has {have})")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or usable_cores()
        options.inter_op_num_threads = 1
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        # Every session has threads of its own. Unless they stop spinning when a call ends, those of search are in the
        # way of the host's code and of relation's threads (a third of relation's time on two cores).
        options.add_session_config_entry("session.force_spinning_stop", "1")
        # The standard LRN operator is slow in ONNX Runtime's CPU provider (its issue 26293); others do it well.
        variant = "fast_expanded" if provider == PROVIDERS["cpu"] else "portable"
        self._files = {stage: bundle.graph(stage, targets=targets, variant=variant) for stage in STAGES}
        self._device, self._provider, self._options = device, provider, options
        self._chosen = (provider, {"device_id": index}) if index else provider
        self._sessions: dict[str, Any] = {}
        # With several targets, templates are made one by one, on a backend for one target: nobody may want this one.
        for stage in STAGES if targets == 1 else STAGES[1:]:
            self.session(stage)
        self.description = f"onnxruntime {onnxruntime.__version__}, {provider}, {options.intra_op_num_threads} threads"

    def context(self) -> OnnxRuntimeContext:
        return OnnxRuntimeContext(self)

    def session(self, stage: str) -> Any:
        """The session of a stage, made when it is first asked for."""
        if stage not in self._sessions:
            self._sessions[stage] = self._load(self._files[stage])
        return self._sessions[stage]

    def _load(self, path: Path) -> Any:
        library = self._library
        try:
            session = library.InferenceSession(str(path), self._options, providers=[self._chosen])
        except Exception as error:  # the library has no common base class for its errors
            raise BackendError(f"{path}: onnxruntime {library.__version__} cannot load it: {error}") from error
        if session.get_providers()[0] != self._provider:
            raise BackendError(
                f"device {self._device!r}: onnxruntime silently fell back from {self._provider} to "
                f"{session.get_providers()[0]} (missing driver or library?)"
            )
        return session


class OnnxRuntimeContext:
    """Buffers are allocated once, bound to the sessions, and handed from graph to graph without a copy."""

    def __init__(self, backend: OnnxRuntimeBackend) -> None:
        self._library = backend._library
        self._backend = backend
        spec, targets = backend.spec, backend.targets
        self._values: dict[str, Any] = {}
        self._arrays: dict[str, Floats] = {}
        shapes = {
            "crop": (targets, 3, spec.crop_size, spec.crop_size),
            "box": (targets, 4),
            "head_kernel": (targets, 6 * spec.anchors_per_cell, 256, spec.template_cells, spec.template_cells),
            "head_bias": (targets, 6 * spec.anchors_per_cell),
            "target_half": (targets, 256, spec.roi_cells, spec.roi_cells),
            "scores": (targets, spec.anchor_count),
            "boxes": (targets, spec.anchor_count, 4),
            # The two feature maps' layout is the graphs' own affair.
            **{
                o.name: tuple(o.shape) for o in backend.session("search").get_outputs() if o.name in ("shallow", "deep")
            },
        }
        for name, shape in shapes.items():
            array = np.zeros(shape, np.float32)
            self._arrays[name] = array
            self._values[name] = self._library.OrtValue.ortvalue_from_numpy(array)
        self.crop: Floats = self._arrays["crop"]
        self._template: Any = None
        self._search = self._bind(
            "search", ("crop", "head_kernel", "head_bias"), ("scores", "boxes", "shallow", "deep")
        )
        self._relations: dict[int, tuple[Any, Floats, Floats, Floats]] = {}

    def set_template(self, box: Floats) -> None:
        if self._template is None:
            self._template = self._bind("template", ("crop", "box"), ("head_kernel", "head_bias", "target_half"))
        self._arrays["box"][:] = box
        self._backend.session("template").run_with_iobinding(self._template)

    def search(self) -> tuple[Floats, Floats]:
        self._backend.session("search").run_with_iobinding(self._search)
        return self._arrays["scores"], self._arrays["boxes"]

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count = proposals.shape[1]
        if count not in self._relations:
            self._relations[count] = self._bind_relation(count)
        binding, given, scores, boxes = self._relations[count]
        given[:] = proposals
        self._backend.session("relation").run_with_iobinding(binding)
        return scores, boxes

    def template(self) -> Template:
        return copy_template(self._arrays)

    def put_template(self, slot: int, template: Template) -> None:
        paste_template(self._arrays, slot, template)

    def _bind(self, stage: str, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Any:
        binding = self._backend.session(stage).io_binding()
        for name in inputs:
            binding.bind_ortvalue_input(name, self._values[name])
        for name in outputs:
            binding.bind_ortvalue_output(name, self._values[name])
        return binding

    def _bind_relation(self, count: int) -> tuple[Any, Floats, Floats, Floats]:
        """Buffers for ``count`` proposals, made the first time that this many are judged."""
        targets = len(self.crop)
        arrays = {"proposals": (targets, count, 4), "scores": (targets, count), "boxes": (targets, count, 4)}
        given, scores, boxes = (np.zeros(shape, np.float32) for shape in arrays.values())
        value = self._library.OrtValue.ortvalue_from_numpy
        binding = self._bind("relation", ("shallow", "deep", "target_half"), ())
        binding.bind_ortvalue_input("proposals", value(given))
        binding.bind_ortvalue_output("scores", value(scores))
        binding.bind_ortvalue_output("boxes", value(boxes))
        return binding, given, scores, boxes


def _provider(device: str) -> tuple[str, int]:
    """Provider name and device index of ``device``."""
    kind, _, index = device.partition(":")
    if index and not index.isdigit():
        raise BackendError(f"device {device!r}: the part after the colon must be a number")
    provider = PROVIDERS.get(kind.lower(), kind)
    if not provider.endswith("ExecutionProvider"):
        raise BackendError(f"device {device!r} is unknown to onnxruntime; try {', '.join(PROVIDERS)} or a provider")
    return provider, int(index or 0)
