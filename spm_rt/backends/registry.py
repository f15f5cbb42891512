"""The table of backends: what each is called, where its code lies, what it needs and what it can do.

Whoever names backends takes them from here: :func:`spm_rt.backends.load_backend`, the commands, the doctor, the
benchmarks, and the tests of what every backend must do. CONTRIBUTING.md ("Add a backend") has the checklist.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import sys
from collections.abc import Mapping
from typing import Any

from ..errors import BackendError, in_words
from .telemetry import without_telemetry


@dataclasses.dataclass(frozen=True)
class BackendEntry:
    """One line of the table.

    Attributes:
        name: as users give it (``--backend``).
        folder: in ``spm_rt/backends``; its module ``backend`` has ``load`` (:class:`spm_rt.backends.protocol.Load`).
        library: module that the backend imports when it is loaded.
        package: what ``pip install`` calls that library.
        purpose: what the library is for here, for people.
        on_cpu: whether ``auto`` chooses it on CPUs.
        precisions: what it can compute a float32 bundle in (:mod:`spm_rt.precision`).
        options: given to ``load`` on top of what every backend takes.
        resident: whether frames can stay on its GPU; the folder's module ``resident`` then has ``make_networks``.
    """

    name: str
    folder: str
    library: str
    package: str
    purpose: str
    on_cpu: bool = False
    precisions: tuple[str, ...] = ("float32",)
    options: Mapping[str, str] = dataclasses.field(default_factory=dict)
    resident: bool = False

    @property
    def installed(self) -> bool:
        """Whether the library is there. Nothing is imported."""
        try:
            spec = importlib.util.find_spec(self.library)
        except (ImportError, ValueError):  # modules that somebody put there by hand have no spec
            return sys.modules.get(self.library) is not None
        # A folder without __init__.py is no library: what an uninstallation left, or one of that name in the current
        # folder.
        return spec is not None and (spec.origin is not None or spec.submodule_search_locations is None)

    @property
    def version(self) -> str:
        """The library's version, by whichever name it was installed (``onnxruntime-gpu`` is one of onnxruntime's)."""
        import importlib.metadata

        for name in (self.package, f"{self.package}-gpu"):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                return importlib.metadata.version(name) or "unknown"
        return "unknown"

    def import_library(self) -> Any:
        """The library, imported.

        Raises:
            BackendError: it is installed, but cannot be imported; the message says why.
        """
        try:
            with without_telemetry():
                return importlib.import_module(self.library)
        except Exception as error:  # a missing shared object, another version of numpy, half an installation
            raise BackendError(
                f"backend {self.name!r}: {self.package} {self.version} is installed, but cannot be imported "
                f"({in_words(error)}); install it again: `pip install --force-reinstall {self.package}`"
            ) from error


BACKENDS = {
    entry.name: entry
    for entry in (
        BackendEntry(
            "onnxruntime", "onnxruntime", "onnxruntime", "onnxruntime", "CPU inference (default)", on_cpu=True
        ),
        BackendEntry(
            "openvino",
            "openvino",
            "openvino",
            "openvino",
            "CPU inference, Intel GPUs",
            on_cpu=True,
            precisions=("float32", "bfloat16"),
        ),
        BackendEntry(
            "pytorch",
            "pytorch",
            "torch",
            "torch",
            "GPU inference without TensorRT; the reference model, export, training",
            precisions=("float32", "float16", "bfloat16"),
            resident=True,
        ),
        BackendEntry("tensorrt", "tensorrt", "tensorrt", "tensorrt", "TensorRT engines", resident=True),
        BackendEntry(
            "tensorrt-rtx",
            "tensorrt",
            "tensorrt_rtx",
            "tensorrt-rtx",
            "TensorRT for RTX engines (built without a GPU)",
            options={"library": "tensorrt_rtx"},
            resident=True,
        ),
    )
}
"""Name -> entry, in the order in which ``auto`` prefers them."""

ON_CPU = tuple(entry.name for entry in BACKENDS.values() if entry.on_cpu)
"""Those that ``auto`` chooses among on CPUs."""


def available() -> list[str]:
    """Names of the backends whose library is installed, best first. Nothing is imported."""
    return [entry.name for entry in BACKENDS.values() if entry.installed]
