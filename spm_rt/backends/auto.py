"""``backend="auto"``: the fastest of what is installed on this machine, by a short measurement that is remembered.

Which library is faster depends on the processor (docs/guide/speed.md has examples of both), so it is tried: the first
time that a bundle is loaded with so many threads, each library runs search and relation a few times. The result is kept
in the cache (:mod:`spm_rt.cache.store`) until a library, the bundle or the processor changes. With
``SPM_RT_AUTO=fixed``, or where the cache is switched off or cannot be written to, the first library of a fixed order is
taken instead.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle import Bundle
from ..cache.store import cache_folder, find_entry, make_entry
from ..errors import BackendError
from ..machine import processor
from .registry import BACKENDS

if TYPE_CHECKING:
    from .protocol import Backend

VARIABLE = "SPM_RT_AUTO"
KIND = "auto"
RESULT = "times.json"
RUNS = 5
MARGIN = 0.95
"""A later library is taken only if it needs less than this share of an earlier one's time: noise decides nothing."""

Load = Callable[[str], "Backend"]


def choose(bundle: Bundle, names: Sequence[str], options: Mapping[str, Any], load: Load) -> tuple[Backend, str]:
    """The fastest backend, loaded, and in words why it was chosen.

    Args:
        bundle: what shall be run.
        names: backends to choose among, in the order of preference.
        options: what they are loaded with; part of what a measurement is remembered by.
        load: loads a backend by its name.

    Raises:
        BackendError: none of them can be loaded; what is raised is the first one's error.
    """
    if len(names) == 1:
        return load(names[0]), "the only one installed"
    if os.environ.get(VARIABLE, "").lower() == "fixed":
        return load(names[0]), f"the first installed, as {VARIABLE} says"
    if not _can_remember():
        return load(names[0]), "the first installed; without a cache to remember it, nothing is measured"
    facts = {
        "bundle": str(bundle.manifest["manifest_sha256"]),
        "processor": processor(),
        "libraries": " ".join(f"{name} {_version(BACKENDS[name].package)}" for name in names),
        "options": json.dumps(dict(options), sort_keys=True, default=str),
    }
    times = _remembered(facts, names)
    if times is not None:
        fastest = pick(names, times)
        return load(fastest), f"{describe(times)}, measured on this machine before"
    loaded, times = _measure(names, load)
    fastest = pick(list(loaded), times)
    make_entry(KIND, facts, lambda folder: (folder / RESULT).write_text(json.dumps(times), "ascii"))
    return loaded[fastest], f"{describe(times)}, measured just now"


def pick(names: Sequence[str], times: Mapping[str, float]) -> str:
    """The first of ``names`` than which no later one is clearly faster."""
    best = names[0]
    for name in names[1:]:
        if times[name] < MARGIN * times[best]:
            best = name
    return best


def describe(times: Mapping[str, float]) -> str:
    """Milliseconds of search and relation, for people."""
    return ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in times.items())


def _version(package: str) -> str:
    """The version of a package, under whichever name it was installed (``onnxruntime-gpu`` is one of onnxruntime's)."""
    for name in (package, f"{package}-gpu"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return "unknown"


def _can_remember() -> bool:
    folder = cache_folder()
    if folder is None:
        return False
    with contextlib.suppress(OSError):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return os.access(folder, os.W_OK | os.X_OK) and folder.is_dir()


def _remembered(facts: Mapping[str, str], names: Sequence[str]) -> dict[str, float] | None:
    entry = find_entry(KIND, facts)
    try:
        times = json.loads((entry / RESULT).read_bytes()) if entry else {}
        return {name: float(times[name]) for name in names}
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _measure(names: Sequence[str], load: Load) -> tuple[dict[str, Backend], dict[str, float]]:
    """The backends that can be loaded, and the seconds that search and relation take: the best of a few runs in turns.

    One that cannot be loaded counts as endlessly slow.
    """
    loaded: dict[str, Backend] = {}
    errors: list[BackendError] = []
    for name in names:
        try:
            loaded[name] = load(name)
        except BackendError as error:
            errors.append(error)
    if not loaded:
        raise errors[0]
    runs = {name: _frame(backend) for name, backend in loaded.items()}
    times = dict.fromkeys(names, float("inf"))
    for turn in range(1 + RUNS if len(loaded) > 1 else 0):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first one allocates
                times[name] = min(times[name], time.perf_counter() - start)
    return loaded, times


def _frame(backend: Backend) -> Callable[[], None]:
    """The network's part of a frame on a noise picture: as long as on any other."""
    context = backend.context()
    targets, _, size, _ = context.crop.shape
    context.crop[:] = np.random.default_rng(0).uniform(0, 255, context.crop.shape)
    boxes = np.array([0.3, 0.3, 0.7, 0.7], np.float32) * size + np.arange(9, dtype=np.float32)[:, None]
    if targets == 1:
        context.set_template(boxes[None, 0])
    proposals = np.tile(boxes.astype(np.float32), (targets, 1, 1))

    def run() -> None:
        context.search()
        context.relate(proposals)

    return run
