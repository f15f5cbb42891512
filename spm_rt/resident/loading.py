"""Networks for the resident trackers from a bundle and a backend's name."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from typing import Any

from ..backends import BACKENDS, find_backend
from ..backends.protocol import Networks
from ..bundle import Bundle
from ..errors import BackendError
from ..settings import TrackerSettings

MakeNetworks = Callable[[int], Networks]
"""Makes networks for a number of targets, new ones each time; engines or weights are loaded once."""


def open_networks(
    bundle: str | os.PathLike[str] | Bundle,
    backend: str,
    device: str,
    precision: str | None = None,
    settings: TrackerSettings | None = None,
) -> tuple[Bundle, MakeNetworks]:
    """A bundle, opened, and what makes a backend's networks for it.

    Args:
        bundle: a folder that ``spm-export`` wrote, or what :meth:`spm_rt.Bundle.open` gave for one.
        backend: ``tensorrt``, ``tensorrt-rtx`` (with engines for each number of targets) or ``pytorch``.
        device: ``cuda`` or ``cuda:INDEX``.
        precision: what ``pytorch`` computes in: ``float32``, ``float16`` or ``bfloat16``; by default the bundle's.
        settings: instead of the bundle's.

    Raises:
        BundleError: the bundle cannot be used.
        BackendError: no such backend, or none whose frames can stay on the device; the precision is not to be had.
    """
    able = [entry.name for entry in BACKENDS.values() if entry.resident]
    if backend not in able:
        raise BackendError(f"backend {backend!r} cannot keep frames on the GPU; {', '.join(able)} can")
    opened = Bundle.of(bundle, settings)
    entry = find_backend(backend)
    module: Any = importlib.import_module(f"..backends.{entry.folder}.resident", __package__)
    make: MakeNetworks = module.make_networks(opened, device=device, precision=precision, **entry.options)
    return opened, make
