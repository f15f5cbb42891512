"""Looking into a backend while it is loaded and run: which graph files it took, and what each operator costs there.

The backends know nothing of this. While :func:`profiler_hooks` is open, the graph files that they ask their bundle for
are written down and, if wanted, the inference library's own class is replaced by one that switches its profiler on. So
what is profiled is what the tracker runs, with the options that it runs with.
"""

from __future__ import annotations

import bisect
import contextlib
import importlib.util
import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from spm_rt.backends.openvino import backend as openvino_backend
from spm_rt.bundle import Bundle

STAGE_OF_INPUT = {"box": "template", "head_bias": "search", "proposals": "relation"}
"""An input that only this stage's graph has."""


class Event(NamedTuple):
    """One operator in one call."""

    name: str
    """as the library calls it after its rewriting of the graph"""
    operator: str
    implementation: str
    """which kernel, where the library says so"""
    ms: float
    shapes: tuple[tuple[tuple[int, ...], ...], tuple[int, ...]] | None
    """of all inputs and of the first output, where the library says so"""


class Hooks:
    """What was loaded, by stage, and the operators' times."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.graphs: dict[str, Path] = {}
        self.sessions: dict[str, Any] = {}
        self.requests: dict[str, Any] = {}
        self._read: dict[str, list[list[Event]]] = {}

    def read(self, *stages: str) -> None:
        """To be called after every call of these stages: OpenVINO keeps the times of the last call only."""
        for stage in stages:
            if stage in self.requests:
                rows = [
                    Event(row.node_name, row.node_type, row.exec_type, row.real_time.total_seconds() * 1e3, None)
                    for row in self.requests[stage].get_profiling_info()
                    if row.real_time
                ]
                self._read.setdefault(stage, []).append(rows)

    def calls(self, stage: str) -> list[list[Event]]:
        """All calls of a stage, in order. ONNX Runtime's profiler ends here."""
        if stage in self.sessions:
            session = self.sessions.pop(stage)
            self._read[stage] = read_profile(Path(session.end_profiling()))
        return self._read.get(stage, [])


@contextlib.contextmanager
def profiler_hooks(profile: bool = False) -> Iterator[Hooks]:
    """While this is open, what backends load is written down: open it around the loading of one backend.

    Args:
        profile: also switch the profilers of ONNX Runtime and OpenVINO on (slower by the clock's own cost, up to a
            tenth); then keep it open until the times have been read.
    """
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as undo:
        hooks = Hooks(Path(folder))
        _hook_bundles(hooks, undo)
        if profile and importlib.util.find_spec("onnxruntime") is not None:
            _hook_onnxruntime(hooks, undo)
        if profile and importlib.util.find_spec("openvino") is not None:
            _hook_openvino(hooks, undo)
        # A session writes its profile when it ends: while the folder is still there.
        undo.callback(lambda: [session.end_profiling() for session in hooks.sessions.values()])
        yield hooks


def _hook_bundles(hooks: Hooks, undo: contextlib.ExitStack) -> None:
    """Write down the files asked for. A library may load something it made of them earlier; the work is the same."""
    original: Any = Bundle.graph

    def graph(bundle: Bundle, stage: str, **which: Any) -> Path:
        hooks.graphs[stage] = original(bundle, stage, **which)
        return hooks.graphs[stage]

    _replace(Bundle, "graph", graph, undo)


def _hook_onnxruntime(hooks: Hooks, undo: contextlib.ExitStack) -> None:
    import onnxruntime

    original: Any = onnxruntime.InferenceSession

    class Session(original):  # type: ignore[misc]
        def __init__(self, model: Any, sess_options: Any = None, *arguments: Any, **named: Any) -> None:
            options = sess_options or onnxruntime.SessionOptions()
            options.enable_profiling = True
            options.profile_file_prefix = str(hooks.folder / "profile")
            super().__init__(model, options, *arguments, **named)
            # The last one of a stage counts: one before it may have been opened to write a cache only.
            hooks.sessions[_stage(value.name for value in self.get_inputs())] = self

    _replace(onnxruntime, "InferenceSession", Session, undo)


def _hook_openvino(hooks: Hooks, undo: contextlib.ExitStack) -> None:
    original = openvino_backend.shared_core
    _replace(openvino_backend, "shared_core", lambda: _Core(original(), hooks), undo)


class _Core:
    """OpenVINO's, whose compiled models count their time and write down the requests made of them."""

    def __init__(self, core: Any, hooks: Hooks) -> None:
        self._core, self._hooks = core, hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)

    def compile_model(self, model: Any, device_name: Any = None, config: Any = None, **named: Any) -> Any:
        compiled = self._core.compile_model(model, device_name, {**(config or {}), "PERF_COUNT": True}, **named)
        return _Compiled(compiled, _stage(n for port in compiled.inputs for n in port.get_names()), self._hooks)


class _Compiled:
    """A compiled model that writes down the requests made of it."""

    def __init__(self, compiled: Any, stage: str, hooks: Hooks) -> None:
        self._compiled, self._stage, self._hooks = compiled, stage, hooks

    def __getattr__(self, name: str) -> Any:
        return getattr(self._compiled, name)

    def create_infer_request(self) -> Any:
        request = self._compiled.create_infer_request()
        self._hooks.requests[self._stage] = request
        return request


def _stage(inputs: Iterable[str]) -> str:
    """The stage whose graph has these inputs; empty for a graph of something else."""
    return next((STAGE_OF_INPUT[name] for name in inputs if name in STAGE_OF_INPUT), "")


def _replace(owner: Any, name: str, value: object, undo: contextlib.ExitStack) -> None:
    undo.callback(setattr, owner, name, getattr(owner, name))
    setattr(owner, name, value)


def read_profile(path: Path) -> list[list[Event]]:
    """The calls in ONNX Runtime's profile: the operators' kernel times, by the run that they fall into."""
    events = json.loads(path.read_text(encoding="utf-8"))
    runs = sorted((event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "model_run")
    calls: list[list[Event]] = [[] for _ in runs]
    starts = [start for start, _ in runs]
    for event in events:
        if event.get("cat") != "Node" or not event["name"].endswith("_kernel_time"):
            continue
        run = bisect.bisect_right(starts, event["ts"]) - 1
        if run < 0 or event["ts"] > runs[run][1]:
            continue
        facts, shapes, name = event["args"], None, event["name"].removesuffix("_kernel_time")
        if facts.get("output_type_shape"):
            shapes = (tuple(map(_shape, facts["input_type_shape"])), _shape(facts["output_type_shape"][0]))
        calls[run].append(Event(name, facts["op_name"], "", event["dur"] / 1e3, shapes))
    return calls


def _shape(value: dict[str, list[int]]) -> tuple[int, ...]:
    """``{"float": [1, 2]}`` as (1, 2)."""
    return tuple(next(iter(value.values()), []))
