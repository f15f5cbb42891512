"""OpenVINO on x86-64 and Arm CPUs, latency mode: float32, bfloat16 where the CPU has it, and int8 bundles.

bfloat16 is a way to compute the float32 graphs: everything else about them stays the same. What it has too few digits
for stays float32: the template, which is made once and used in every frame, and the positions of the RoI samples, for
which the relation graph is cut in two.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...bundle import Bundle
from ...bundle.contract import stage_shapes
from ...bundle.forms import form_for
from ...errors import BackendError, in_words
from ...machine import OneProcess, instruction_sets, run_side_by_side, usable_cores
from ..protocol import ArrayTemplates

Floats = NDArray[np.float32]

ROI_FEATURES = "roi_features"
"""What the relation graph calls its RoI samples."""
RELATION_SIZE = 9
"""Proposals per relation call: OpenVINO is slow with open shapes, so fewer are filled up, and more compile anew."""


class _Library(OneProcess):
    def __init__(self) -> None:
        import openvino

        super().__init__()
        self.core = openvino.Core()


_libraries: list[_Library] = []  # a forked child's own comes behind its parent's


def shared_core() -> Any:
    """``openvino.Core``, one for the whole process and to its end.

    On x86-64 Linux, each Core gives the thread that makes it a stack for its signal handlers, and takes back only its
    own: of two that go in the order in which they came, the second leaves the first one's stack, which has been freed.
    The next signal, Ctrl-C too, then ends the process with SIGSEGV (findings/openvino_signal_stack.sh).
    """
    if not _libraries or _libraries[-1].elsewhere:
        _libraries.append(_Library())
    return _libraries[-1].core


class OpenVinoBackend:
    """One compiled model per graph, shared by all contexts; each context has its own inference requests."""

    name = "openvino"

    def __init__(
        self,
        bundle: Bundle,
        *,
        device: str = "cpu",
        threads: int | None = None,
        targets: int = 1,
        precision: str | None = None,
    ) -> None:
        import openvino

        precision = precision or "float32"
        self._library: Any = openvino
        self._core = shared_core()
        self.spec = bundle.spec
        self.bundle = bundle  # whose files may be there only as long as it is
        self.targets = targets
        self._device = device.upper()
        if self._device.split(".")[0] not in {name.split(".")[0] for name in self._core.available_devices}:
            have = ", ".join(self._core.available_devices)
            raise BackendError(f"device {device!r}: this openvino has {have}")
        # The precision is said aloud: on CPUs with AMX the default would be bfloat16.
        self._options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        self._hint = "bf16" if precision == "bfloat16" else "f32"
        if self._hint == "bf16" and "BF16" not in self._core.get_property(self._device, "OPTIMIZATION_CAPABILITIES"):
            raise BackendError(f"precision 'bfloat16': this {self._device} has no bfloat16 (AVX512_BF16 or AMX)")
        count = threads or usable_cores()
        if self._device == "CPU":
            # Pinned threads are of the first cores, in every process: two processes with a thread each share one core.
            self._options |= {"INFERENCE_NUM_THREADS": count, "ENABLE_CPU_PINNING": False}
        # Matrix units want large products, not few; the Winograd form has not been tried on a CPU with AMX, though.
        on_matrix_units = self._hint == "bf16" and "amx_bf16" in instruction_sets()
        variant = form_for("OpenVINO in bfloat16 with AMX" if on_matrix_units else "OpenVINO")
        self._relation_file = bundle.graph("relation", targets=targets, variant=variant)
        self._template_file = bundle.graph("template", targets=targets, variant=variant)
        self._relations: dict[int, list[Any]] = {}
        # Most of a compilation runs on one core, whatever the number of threads: the graphs share the cores.
        search_file = bundle.graph("search", targets=targets, variant=variant)
        compilations: list[Callable[[], Any]] = [
            lambda: self._compile(search_file, self._hint),
            lambda: self.relation(RELATION_SIZE),
        ]
        # With several targets, templates are made one by one, on a backend for one target: none may be wanted here.
        if targets == 1:
            compilations.insert(0, lambda: self.template)
        *_, self.search, _ = run_side_by_side(compilations, min(count, 3))
        version = openvino.__version__.split("-")[0]
        if self._device == "CPU":  # which uses no more threads than there are cores for, whatever was asked for
            count = self.search.get_property("INFERENCE_NUM_THREADS")
        graphs = "int8, the rest " if bundle.precision == "int8" else ""
        self.description = f"openvino {version}, {self._device}, {graphs}{precision}, {count} threads"

    def context(self) -> OpenVinoContext:
        return OpenVinoContext(self)

    @functools.cached_property
    def template(self) -> Any:
        """The template graph, compiled when it is first asked for."""
        return self._compile(self._template_file, "f32")

    def relation(self, count: int) -> Sequence[Any]:
        """The relation graph for exactly ``count`` proposals: one compiled model, or two that follow one another."""
        if count not in self._relations:
            shapes = {"proposals": [self.targets, count, 4]}
            if self._hint == "f32":
                self._relations[count] = [self._compile(self._relation_file, "f32", shapes)]
            else:
                sample, score = self._cut_relation(shapes)
                self._relations[count] = [self._compile(sample, "f32"), self._compile(score, self._hint)]
        return self._relations[count]

    def _cut_relation(self, shapes: dict[str, list[int]]) -> tuple[Any, Any]:
        """The relation graph up to the RoI samples, and from there on."""
        operators = self._library.opset13
        whole = [self._read(self._relation_file, shapes) for _ in range(2)]
        samples = [
            next(node.output(0) for node in model.get_ordered_ops() if ROI_FEATURES in _names(node)) for model in whole
        ]
        needed = [given for given in whole[0].get_parameters() if "target_half" not in _names(given)]
        given = operators.parameter(samples[1].shape, np.float32, name=ROI_FEATURES)
        given.output(0).set_names({ROI_FEATURES})
        for reader in samples[1].get_target_inputs():
            reader.replace_source_output(given.output(0))
        others = [one for one in whole[1].get_parameters() if _names(one) & {"target_half", "proposals"}]
        model = self._library.Model
        return model([operators.result(samples[0])], needed), model(whole[1].get_results(), [given, *others])

    def tensor(self, array: Floats) -> Any:
        """An OpenVINO tensor on the same memory."""
        return self._library.Tensor(array, shared_memory=True)

    def _read(self, path: Path, shapes: dict[str, list[int]] | None = None) -> Any:
        try:
            model = self._core.read_model(str(path))
            if shapes:
                model.reshape(shapes)
            return model
        except RuntimeError as error:
            version = self._library.__version__
            raise BackendError(f"{path}: openvino {version} cannot read it: {in_words(error)}") from error

    def _compile(self, graph: Any, hint: str, shapes: dict[str, list[int]] | None = None) -> Any:
        """A file, or a model in memory, compiled."""
        model = self._read(graph, shapes) if isinstance(graph, Path) else graph
        try:
            return self._core.compile_model(model, self._device, {**self._options, "INFERENCE_PRECISION_HINT": hint})
        except RuntimeError as error:
            name = graph if isinstance(graph, Path) else self._relation_file
            version = self._library.__version__
            raise BackendError(f"{name}: openvino {version} cannot load it: {in_words(error)}") from error


def _names(node: Any) -> set[str]:
    """The names of a node's first output."""
    return set(node.output(0).get_names()) if node.get_output_size() else set()


def _run(request: Any) -> None:
    """Run a request on the library's own threads: what it keeps for any other hangs forked children at their end."""
    request.start_async()
    request.wait()


class OpenVinoContext(ArrayTemplates):
    """Inference requests on shared buffers: what search writes, relation reads in place."""

    def __init__(self, backend: OpenVinoBackend) -> None:
        self._backend = backend
        shapes = stage_shapes(backend.spec, backend.targets, "template")
        # The other arrays are as the compiled graphs have them: the layout of feature maps is the graphs' own affair.
        self._arrays = {name: np.zeros(shapes[name], np.float32) for name in ("crop", "target_half")}
        self.crop: Floats = self._arrays["crop"]
        self._template: Any = None
        self._search = self._request(backend.search, self._arrays)
        self._relations: dict[int, tuple[list[Any], dict[str, Floats]]] = {}

    def set_template(self, box: Floats) -> None:
        if self._template is None:
            self._template = self._request(self._backend.template, self._arrays)
        self._arrays["box"][:] = box
        _run(self._template)

    def search(self) -> tuple[Floats, Floats]:
        _run(self._search)
        return self._arrays["scores"], self._arrays["boxes"]

    def relate(self, proposals: Floats) -> tuple[Floats, Floats]:
        count = proposals.shape[1]
        size = max(RELATION_SIZE, count)
        if size not in self._relations:  # where there are two graphs, one hands its samples to the next
            arrays = {name: self._arrays[name] for name in ("shallow", "deep", "target_half")}
            requests = [self._request(compiled, arrays) for compiled in self._backend.relation(size)]
            self._relations[size] = requests, arrays
        requests, arrays = self._relations[size]
        arrays["proposals"][:, :count] = proposals
        arrays["proposals"][:, count:] = proposals[:, -1:]
        for request in requests:
            _run(request)
        return arrays["scores"][:, :count].copy(), arrays["boxes"][:, :count].copy()

    def _request(self, compiled: Any, arrays: dict[str, Floats]) -> Any:
        """A request of a compiled graph on arrays by name, which are made where there is none of that name yet."""
        request = compiled.create_infer_request()
        for port in (*compiled.inputs, *compiled.outputs):
            name = ROI_FEATURES if ROI_FEATURES in port.get_names() else port.get_any_name()
            if name not in arrays:
                arrays[name] = np.zeros(tuple(port.shape), np.float32)
            request.set_tensor(port, self._backend.tensor(arrays[name]))
        return request


load = OpenVinoBackend
"""See :class:`spm_rt.backends.protocol.Load`."""
