"""``backend="auto"``: the fastest of what is installed on this machine, by a short measurement that is remembered.

Which library is faster depends on the processor (docs/guide/speed.md has examples of both), so it is tried: the first
time that a bundle is loaded with so many threads, each library runs search and relation a few times. The result is kept
in the cache (:mod:`spm_rt.store`) until a library, the bundle or the processor changes. With
``SPM_RT_AUTO=fixed``, or where the cache is switched off or cannot be written to, the first library of a fixed order is
taken instead. A library that cannot be used is left out, and that is told but not remembered: it may be mended, and
whatever was wrong with one copy of a bundle is not wrong with another.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np

from ..bundle import Bundle
from ..errors import BackendError
from ..log import Logger
from ..machine import processor
from ..store import cache_folder, find_entry, make_entry
from .registry import BACKENDS

if TYPE_CHECKING:
    from .protocol import Backend

logger = Logger(__name__)

VARIABLE = "SPM_RT_AUTO"
KIND = "auto"
RESULT = "times.json"
RUNS = 5
MARGIN = 0.95
"""A later library is taken only if it needs less than this share of an earlier one's time: noise decides nothing."""

Load = Callable[[str], "Backend"]
Item = TypeVar("Item")


def choose(bundle: Bundle, names: Sequence[str], options: Mapping[str, Any], load: Load) -> tuple[Backend, str]:
    """The fastest backend, loaded, and in words why it was chosen.

    Args:
        bundle: what shall be run.
        names: backends to choose among, in the order of preference.
        options: what they are loaded with; part of what a measurement is remembered by.
        load: loads a backend by its name.

    Raises:
        BackendError: none of them can be loaded; what each of them said.
    """
    attempts = Attempts(load)
    if len(names) == 1:
        return attempts.first(names), "the only one installed"
    if os.environ.get(VARIABLE, "").lower() == "fixed":
        return attempts.first(names), attempts.told(f"the first installed, as {VARIABLE} says")
    if not _can_remember():
        why = "the first installed; without a cache to remember it, nothing is measured"
        return attempts.first(names), attempts.told(why)
    facts = {
        "bundle": str(bundle.manifest["manifest_sha256"]),
        "processor": processor(),
        "libraries": " ".join(f"{name} {BACKENDS[name].version}" for name in names),
        "options": json.dumps(dict(options), sort_keys=True, default=str),
    }
    times = _remembered(facts, names)
    if times is not None:
        fastest = pick(names, times)
        order = [fastest, *(name for name in names if name != fastest)]
        return attempts.first(order), attempts.told(f"{describe(times)}, measured on this machine before")
    loaded, times = _measure(names, attempts)
    if not attempts.errors:
        make_entry(KIND, facts, lambda folder: (folder / RESULT).write_text(json.dumps(times), "ascii"))
    how = f"{describe(times)}, measured just now" if len(loaded) > 1 else "the only one that can be used"
    return loaded[pick(list(loaded), times)], attempts.told(how)


class Attempts(Generic[Item]):
    """Loads backends, and keeps what those that cannot be loaded said."""

    def __init__(self, load: Callable[[str], Item]) -> None:
        self._load = load
        self.errors: dict[str, BackendError] = {}

    def __call__(self, name: str) -> Item | None:
        """The backend, or None: ``errors`` has the reason then."""
        try:
            return self._load(name)
        except BackendError as error:
            logger.warning("auto leaves %s out: %s", name, str(error))
            self.errors[name] = error
            return None

    def first(self, names: Sequence[str]) -> Item:
        """The first of them that can be loaded."""
        for name in names:
            if (backend := self(name)) is not None:
                return backend
        raise self.error()

    def error(self) -> BackendError:
        """What to raise if none can be loaded."""
        if len(self.errors) == 1:
            return next(iter(self.errors.values()))
        return BackendError("no backend can be used: " + "; ".join(map(str, self.errors.values())))

    def told(self, how: str) -> str:
        """Why a backend was chosen, and why others were not."""
        return "; ".join([how, *(f"{name} cannot be used ({error})" for name, error in self.errors.items())])


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
        known = {name: float(times[name]) for name in names}
        return known if all(map(math.isfinite, known.values())) else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _measure(names: Sequence[str], attempts: Attempts[Backend]) -> tuple[dict[str, Backend], dict[str, float]]:
    """The backends that can be used, and the seconds that search and relation take: the best of a few runs in turns."""
    loaded = {name: backend for name in names if (backend := attempts(name)) is not None}
    if not loaded:
        raise attempts.error()
    runs = {name: frame_run(backend) for name, backend in loaded.items()}
    times = dict.fromkeys(loaded, float("inf"))
    for turn in range(1 + RUNS if len(loaded) > 1 else 0):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if turn:  # the first one allocates
                times[name] = min(times[name], time.perf_counter() - start)
    return loaded, times


def frame_run(backend: Backend) -> Callable[[], None]:
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
