"""Inference backends behind one small interface (:mod:`spm_rt.backends.protocol`), loaded by name.

:mod:`spm_rt.backends.registry` is the table of them. CONTRIBUTING.md ("Add a backend") says what a new one needs.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ..errors import BackendError, SettingsError, SpmError, in_words
from ..fields import shortened
from ..files import shown
from ..log import Logger
from ..machine import leave_to_parent, usable_cores
from ..precision import parse_precision
from .registry import BACKENDS, ON_CPU, BackendEntry, available

if TYPE_CHECKING:  # both import numpy, which who reads the table need not wait for
    from ..bundle import Bundle
    from .protocol import Backend

__all__ = [
    "BACKENDS",
    "ON_CPU",
    "available",
    "bundle_sha256",
    "check_precision",
    "chosen_because",
    "find_backend",
    "load_backend",
]

logger = Logger(__name__)

MOST_THREADS = 1024
"""Of an inference call: libraries abort where the system gives no more."""


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
        name: a key of :data:`spm_rt.backends.registry.BACKENDS`, or ``auto``: on CPUs the fastest
            (:mod:`spm_rt.backends.auto`; see :func:`chosen_because`), elsewhere the first whose library can be
            imported.
        device: ``cpu``, ``cuda``, ``cuda:1``, or a name that the backend's library knows.
        threads: threads per inference call; by default as many as the process may use cores.
        targets: leading axis of every tensor.
        precision: what float32 graphs are computed in, where a backend offers a choice; by default the bundle's.

    Raises:
        BackendError: unknown, not installed, or the device or precision was not to be had.
    """
    if threads is not None and not (type(threads) is int and 1 <= threads <= MOST_THREADS):
        raise BackendError(f"threads is {shortened(threads)}; it must be a whole number, 1 or more")
    if not isinstance(name, str) or not isinstance(device, str):
        raise BackendError(f"backend and device are names, not {shortened(name)} and {shortened(device)}")
    precision = check_precision(bundle, precision)
    options: dict[str, Any] = {"device": device, "threads": threads, "targets": targets, "precision": precision}
    if name != "auto":
        return _load(bundle, find_backend(name, precision), options)
    names = available()
    if not names:
        wanted = " or ".join(f"`pip install {entry.package}`" for entry in BACKENDS.values())
        raise BackendError(f"no inference library is installed: {wanted}")
    offering = [name for name in names if precision is None or precision in BACKENDS[name].precisions]
    if not offering:
        have = ", ".join(names)
        others = ", ".join(name for name, entry in BACKENDS.items() if precision in entry.precisions)
        raise BackendError(f"precision {precision!r}: of what is installed ({have}), nothing offers it; {others} would")
    from .auto import Attempts, choose

    rivals = [name for name in offering if name in ON_CPU] if device.lower() == "cpu" else []
    if rivals:
        facts = {**options, "threads": threads or usable_cores()}
        backend, reason = choose(bundle, rivals, facts, lambda rival: _load(bundle, BACKENDS[rival], options))
        backend.chosen_because = reason  # type: ignore[attr-defined]
        logger.info("auto took %s: %s", backend.name, reason)
        return backend

    def importable(name: str) -> BackendEntry:
        BACKENDS[name].import_library()
        return BACKENDS[name]

    return _load(bundle, Attempts(importable).first(offering), options)


def chosen_because(backend: Backend) -> str:
    """Why ``auto`` took this backend, in words; empty if it did not."""
    return str(getattr(backend, "chosen_because", ""))


def bundle_sha256(backend: Backend) -> str | None:
    """The digest in the manifest of the bundle that a backend was loaded from; None where it came from elsewhere."""
    digest = getattr(backend, "bundle_sha256", None)
    return None if digest is None else str(digest)


def check_precision(bundle: Bundle, precision: str | None) -> str | None:
    """The name of a precision that a bundle is to be computed in; None stays None: the bundle's own.

    Raises:
        BackendError: no backend offers it, or the bundle is not float32.
    """
    if precision is None:
        return None
    offered = dict.fromkeys(name for entry in BACKENDS.values() for name in entry.precisions)
    try:
        precision = parse_precision(precision, offered)
    except SettingsError as error:
        raise BackendError(f"{error} (int8 is a bundle's own)") from None
    if bundle.precision != "float32":
        raise BackendError(f"{bundle.path}: its graphs are {bundle.precision}; no other precision fits")
    return precision


def find_backend(name: str, precision: str | None = None) -> BackendEntry:
    """The entry of that name.

    Raises:
        BackendError: there is none, its library is not installed, or it does not offer the precision.
    """
    if name not in BACKENDS:
        raise BackendError(f"backend {name!r} is unknown; there are: auto, {', '.join(BACKENDS)}")
    entry = BACKENDS[name]
    if not entry.installed:
        raise BackendError(f"backend {name!r} needs the package {entry.package}: `pip install {entry.package}`")
    if precision is not None and precision not in entry.precisions:
        others = ", ".join(other.name for other in BACKENDS.values() if precision in other.precisions)
        raise BackendError(f"backend {name!r} does not offer precision {precision!r}; {others} can")
    return entry


def _load(bundle: Bundle, entry: BackendEntry, options: dict[str, Any]) -> Backend:
    entry.import_library()
    module: Any = importlib.import_module(f"{__name__}.{entry.folder}.backend")
    try:
        backend: Backend = module.load(bundle, **options, **entry.options)
    except (SpmError, MemoryError):
        raise
    except Exception as error:  # what only a library of another version, or half of one, does
        library = f"{entry.package} {entry.version}"
        raise BackendError(
            f"backend {entry.name!r}: {library} could not load {bundle.path} ({in_words(error)}); "
            f"if it is old or incomplete: `pip install --upgrade --force-reinstall {entry.package}`"
        ) from error
    leave_to_parent(backend)
    backend.bundle_sha256 = bundle.manifest.get("manifest_sha256")  # type: ignore[attr-defined]
    logger.info("loaded %s for %s", backend.description, shown(str(bundle.path)))
    return backend
