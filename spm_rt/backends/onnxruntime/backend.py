"""ONNX Runtime: the default on CPUs, and a way to CUDA, TensorRT and others through its execution providers."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import STAGES, Bundle
from ...bundle.contract import stage_shapes
from ...bundle.forms import form_for
from ...errors import BackendError, in_words
from ...log import Logger
from ...machine import processor, release_memory, run_side_by_side, usable_cores
from ...store import find_entry, make_entry
from ..protocol import ArrayTemplates
from .binding import bind
from .gpu import DeviceContext, captures, provider_options

Floats = NDArray[np.float32]

logger = Logger(__name__)

KIND = "onnxruntime"
OPTIMIZED = "graph.onnx"
"""In the cache (spm_rt.store): a graph with its constants folded and laid out for this processor, mapped from
disk."""

SPINNING_MICROSECONDS = 20
"""How long a thread waits awake for the next operator's part: the gap between two operators, for graphs of 1 to 30 ms
alike. By default the library has its threads wait awake for so long that beside one busy process a graph takes up to
twice the time; threads that sleep at once cost a graph of 5 ms a tenth on idle cores (docs/guide/speed.md)."""
SPINNING_SINCE = (1, 26)
"""The first ONNX Runtime that can be told for how long; the threads of earlier ones sleep at once."""

PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "tensorrt": "TensorrtExecutionProvider"}

ON_GPU = (PROVIDERS["cuda"], PROVIDERS["tensorrt"])


def load(
    bundle: Bundle, *, device: str, threads: int | None, targets: int, precision: str | None
) -> OnnxRuntimeBackend:
    """See :class:`spm_rt.backends.protocol.Load`. Graphs are computed in the bundle's own precision."""
    return OnnxRuntimeBackend(bundle, device=device, threads=threads, targets=targets)


class OnnxRuntimeBackend:
    """One session per graph; sessions are shared by all contexts and safe to call from several threads.

    ``device`` is ``cpu``, ``cuda``, ``cuda:INDEX``, ``tensorrt`` or any provider's full name. ONNX Runtime falls back
    to the CPU without a word when a provider cannot be had; here that is an error.
    """

    name = "onnxruntime"

    def __init__(self, bundle: Bundle, *, device: str = "cpu", threads: int | None = None, targets: int = 1) -> None:
        import onnxruntime

        self.library: Any = onnxruntime
        self.spec = bundle.spec
        self.bundle = bundle  # whose files may be there only as long as it is
        self.targets = targets
        provider, index = _provider(device)
        if provider not in onnxruntime.get_available_providers():
            have = ", ".join(onnxruntime.get_available_providers())
            other = "; the package onnxruntime-gpu, in its place, has it" if provider in PROVIDERS.values() else ""
            raise BackendError(f"device {device!r}: this onnxruntime has no {provider} (it has {have}){other}")
        self._threads = threads or usable_cores()
        version = tuple(int(part) for part in onnxruntime.__version__.split(".")[:2])
        self._spinning = SPINNING_MICROSECONDS if version >= SPINNING_SINCE else 0
        # The standard LRN operator is slow in ONNX Runtime's CPU provider (its issue 26293); others do it well.
        on_cpu = provider == PROVIDERS["cpu"]
        variant = form_for("ONNX Runtime on CPUs" if on_cpu else "ONNX Runtime on GPUs")
        self._files = {stage: bundle.graph(stage, targets=targets, variant=variant) for stage in STAGES}
        self._device, self._provider, self._index = device, provider, index
        options = provider_options(provider, index, int8=bundle.precision == "int8")
        self._turns = threading.Lock() if captures(options) else None
        self._chosen = (provider, options) if provider in ON_GPU or index else provider
        self._facts = {stage: self._made_of(bundle, path) for stage, path in self._files.items()} if on_cpu else {}
        self._sessions: dict[str, Any] = {}
        # With several targets, templates are made one by one, on a backend for one target: nobody may want this one.
        stages = STAGES if targets == 1 else STAGES[1:]
        self._entries = self._find_entries(stages)
        for stage in stages:
            self.session(stage)
        waiting = "" if self._threads == 1 else f" that spin for {self._spinning} us"
        self.description = f"onnxruntime {onnxruntime.__version__}, {provider}, {self._threads} threads{waiting}"

    def context(self) -> OnnxRuntimeContext | DeviceContext:
        if self._provider in ON_GPU:
            sessions = {stage: self.session(stage) for stage in (STAGES if self.targets == 1 else STAGES[1:])}
            count = self.bundle.settings.num_candidates
            return DeviceContext(
                sessions, self.library, self.spec, self.targets, count, "cuda", self._index, self._turns
            )
        return OnnxRuntimeContext(self)

    def session(self, stage: str) -> Any:
        """The session of a stage, made when it is first asked for."""
        if stage not in self._sessions:
            self._sessions[stage] = self._load(stage)
        return self._sessions[stage]

    def _load(self, stage: str) -> Any:
        """A session on the graph as the library optimised it before, or else on the bundle's."""
        path = self._files[stage]
        entry = self._entries.pop(stage, None)
        if entry is None and stage in self._facts:
            entry = self._optimize(stage)
        if entry is not None:
            with contextlib.suppress(BackendError):  # removed since it was looked at: the bundle has all that is needed
                return self._open(entry / OPTIMIZED, self._options(optimize=False))
            logger.warning("%s cannot be used; the bundle's own graph is compiled", entry)
        session = self._open(path, self._options())
        release_memory()
        return session

    def _optimize(self, stage: str) -> Path | None:
        """Let the library write what it makes of a graph into the cache: the path of it, if that can be done."""

        def write(folder: Path) -> None:
            options = self._options()
            options.optimized_model_filepath = str(folder / OPTIMIZED)
            options.add_session_config_entry("session.optimized_model_external_initializers_file_name", "weights.bin")
            options.add_session_config_entry("session.optimized_model_external_initializers_min_size_in_bytes", "1024")
            self._open(self._files[stage], options)

        try:
            return make_entry(KIND, self._facts[stage], write)
        except BackendError:  # the graph, or only the writing: loading it plainly will tell
            return None
        finally:
            release_memory()

    def _find_entries(self, stages: Sequence[str]) -> dict[str, Path]:
        """The stages' entries in the cache. Their digests take longest: two threads share them."""
        wanted = [stage for stage in stages if stage in self._facts]
        found = run_side_by_side([functools.partial(find_entry, KIND, self._facts[stage]) for stage in wanted], 2)
        return {stage: entry for stage, entry in zip(wanted, found, strict=True) if entry is not None}

    def _made_of(self, bundle: Bundle, path: Path) -> dict[str, str]:
        """What decides how the library optimises a graph."""
        files = bundle.manifest["files"]
        weights = [
            str(facts["sha256"]) for name, facts in sorted(files.items()) if not name.endswith((".onnx", ".json"))
        ]
        return {
            "graph": str(files[path.name]["sha256"]),
            "weights": " ".join(weights),
            "library": f"onnxruntime {self.library.__version__}",
            "provider": self._provider,
            "processor": processor(),
        }

    def _options(self, optimize: bool = True) -> Any:
        library = self.library
        options = library.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
        levels = library.GraphOptimizationLevel
        options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
        options.log_severity_level = 4  # what it says of an error it raises too
        # Every session has threads of its own. Unless they stop spinning when a call ends, those of search are in the
        # way of the host's code and of relation's threads (a third of relation's time on two cores).
        options.add_session_config_entry("session.force_spinning_stop", "1")
        if self._spinning:
            options.add_session_config_entry("session.intra_op.spin_duration_us", str(self._spinning))
        else:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        return options

    def _open(self, path: Path, options: Any) -> Any:
        library = self.library
        try:
            session = library.InferenceSession(str(path), options, providers=[self._chosen])
        except Exception as error:  # the library has no common base class for its errors
            raise BackendError(
                f"{path}: onnxruntime {library.__version__} cannot load it: {in_words(error)}"
            ) from error
        if session.get_providers()[0] != self._provider:
            raise BackendError(
                f"device {self._device!r}: onnxruntime silently fell back from {self._provider} to "
                f"{session.get_providers()[0]} (missing driver or library?)"
            )
        return session


class OnnxRuntimeContext(ArrayTemplates):
    """Buffers are allocated once, bound to the sessions, and handed from graph to graph without a copy."""

    def __init__(self, backend: OnnxRuntimeBackend) -> None:
        self._backend = backend
        search = backend.session("search")
        shapes = {**self._shapes("template"), **self._shapes("search")}
        # The two feature maps' layout is the graphs' own affair.
        shapes |= {o.name: tuple(o.shape) for o in search.get_outputs() if o.name in ("shallow", "deep")}
        self._arrays, self._values = self._buffers(shapes)
        self.crop: Floats = self._arrays["crop"]
        self._template: Any = None
        self._search = bind(search, backend.spec, "search", self._values)
        self._relations: dict[int, tuple[Any, dict[str, Floats]]] = {}

    def set_template(self, box: Floats) -> None:
        session = self._backend.session("template")
        if self._template is None:
            self._template = bind(session, self._backend.spec, "template", self._values)
        self._arrays["box"][:] = box
        session.run_with_iobinding(self._template)

    def search(self) -> tuple[Floats, Floats]:
        self._backend.session("search").run_with_iobinding(self._search)
        return self._arrays["scores"], self._arrays["boxes"]

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count, session = proposals.shape[1], self._backend.session("relation")
        if count not in self._relations:  # buffers for so many proposals
            shapes = self._shapes("relation", count)
            arrays, values = self._buffers({name: shapes[name] for name in ("proposals", "scores", "boxes")})
            binding = bind(session, self._backend.spec, "relation", {**self._values, **values})
            self._relations[count] = binding, arrays
        binding, arrays = self._relations[count]
        arrays["proposals"][:] = proposals
        session.run_with_iobinding(binding)
        return arrays["scores"], arrays["boxes"]

    def _shapes(self, stage: str, count: int = 0) -> dict[str, tuple[int, ...]]:
        return stage_shapes(self._backend.spec, self._backend.targets, stage, count)

    def _buffers(self, shapes: Mapping[str, tuple[int, ...]]) -> tuple[dict[str, Floats], dict[str, Any]]:
        """Arrays of zeros, and OrtValues on the same memory."""
        arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
        value = self._backend.library.OrtValue.ortvalue_from_numpy
        return arrays, {name: value(array) for name, array in arrays.items()}


def _provider(device: str) -> tuple[str, int]:
    """Provider name and device index of ``device``."""
    kind, _, index = device.partition(":")
    if index and not index.isdigit():
        raise BackendError(f"device {device!r}: the part after the colon must be a number")
    provider = PROVIDERS.get(kind.lower(), kind)
    if not provider.endswith("ExecutionProvider"):
        raise BackendError(f"device {device!r} is unknown to onnxruntime; try {', '.join(PROVIDERS)} or a provider")
    return provider, int(index or 0)
