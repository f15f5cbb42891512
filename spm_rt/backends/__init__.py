"""Inference backends behind one small interface.

A backend belongs to one bundle and one device and owns the compiled graphs; a context belongs to one tracker and owns
its template, feature maps and buffers. Features never cross this border: a context keeps what ``search`` produced where
its device likes it, and ``relate`` reads it there.

To add a backend, write a module with a function ``load(bundle, *, device, threads, targets) -> Backend`` and name it in
``MODULES`` (CONTRIBUTING.md has the recipe).
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from typing import Any

from ..bundle import Bundle
from ..errors import BackendError, SettingsError
from ..machine import usable_cores
from ..precision import parse_precision
from .protocol import Backend

# Name -> (module here, library it needs), in the order in which "auto" prefers them.
MODULES = {
    "onnxruntime": ("onnxruntime.backend", "onnxruntime"),
    "openvino": ("openvino.backend", "openvino"),
    "pytorch": ("pytorch.backend", "torch"),
    "tensorrt": ("tensorrt.backend", "tensorrt"),
    "tensorrt-rtx": ("tensorrt.rtx", "tensorrt_rtx"),
}
ON_CPU = ("onnxruntime", "openvino")
"""Those that "auto" chooses among on CPUs."""


PRECISIONS = {"onnxruntime": ("float32",), "openvino": ("float32", "bfloat16")}
"""What a backend can compute float32 graphs in. int8 is another bundle: ``spm-export --precision int8``."""


def available() -> list[str]:
    """Names of the backends whose library is installed, best first. Nothing is imported."""
    return [name for name, (_, library) in MODULES.items() if importlib.util.find_spec(library) is not None]


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
        try:
            how["precision"] = precision = parse_precision(precision, ("float32", "bfloat16"))
        except SettingsError as error:
            raise BackendError(f"{error} (int8 is a bundle's own)") from None
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
