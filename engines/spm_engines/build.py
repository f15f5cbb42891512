"""From a bundle to cached engines: what is there is kept, what is missing is built, what does not fit is named."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from spm_rt.bundle import STAGES, Bundle
from spm_rt.cache.engine_facts import EngineFacts, differences, engine_facts
from spm_rt.cache.engines import engine_folder, engine_path, read_engine, read_facts, stored_engines
from spm_rt.errors import EngineError

from .plan import build_plan
from .store import locked, prepare_folder, write_engine
from .toolchain import BuildOptions, Toolchain, open_toolchain


@dataclasses.dataclass(frozen=True)
class Built:
    """One engine of the cache.

    Attributes:
        path: the plan.
        facts: what its sidecar says.
        state: ``cached`` (it was there), ``built``, or ``rebuilt`` (what was there was damaged).
        seconds: what building took.
        notes: other engines of the same graph that do not fit here, and why; what was wrong with a damaged one.
    """

    path: Path
    facts: EngineFacts
    state: str
    seconds: float
    notes: tuple[str, ...] = ()


def build_engines(
    bundle: Bundle,
    options: BuildOptions,
    targets: Sequence[int] = (),
    folder: Path | None = None,
    *,
    refuse_stale: bool = False,
    step: Callable[[str], None] = lambda what: None,
) -> list[Built]:
    """Engines of a bundle's graphs, from the cache or built anew; the template's for one target only.

    Args:
        bundle: a verified bundle.
        options: see there.
        targets: numbers of targets; by default all for which the bundle has graphs.
        folder: the cache; by default the user's own.
        refuse_stale: raise where a damaged, stale or foreign engine is found, instead of building another one.
        step: called with what has just been done, once per engine.

    Raises:
        EngineError: see :func:`spm_engines.toolchain.open_toolchain` and :func:`spm_engines.plan.build_plan`; or
            an engine was found that does not fit and ``refuse_stale`` is set.
    """
    tools = open_toolchain(options, bundle.precision)
    place = prepare_folder(folder or engine_folder())
    found = []
    for count in targets or bundle.targets:
        for stage in stages_for(count):
            built = build_engine(bundle, stage, count, options, tools, place, refuse_stale=refuse_stale)
            step(f"{stage}, {count} targets: {built.state}")
            found.append(built)
    return found


def stages_for(targets: int) -> tuple[str, ...]:
    """The stages that have an engine for so many targets: templates are made one by one."""
    return STAGES if targets == 1 else tuple(stage for stage in STAGES if stage != "template")


def build_engine(
    bundle: Bundle,
    stage: str,
    targets: int,
    options: BuildOptions,
    tools: Toolchain,
    folder: Path,
    *,
    refuse_stale: bool = False,
) -> Built:
    """One engine, from the cache or built anew; of several processes that ask at once, one builds."""
    machine = {name: getattr(tools, name) for name in ("library", "version", "target", "gpu", "plugin_sha256")}
    chosen = {name: getattr(options, name) for name in ("proposals", "tf32", "version_compatible", "workspace")}
    wanted = engine_facts(bundle, stage, targets=targets, **machine, **chosen)
    path = engine_path(folder, wanted)
    with locked(path):
        notes: list[str] = []
        state = "built"
        if path.with_suffix(".json").exists():
            try:
                read_engine(path, wanted)
                return Built(path, read_facts(path), "cached", 0.0)
            except EngineError as error:
                notes.append(str(error))
                state = "rebuilt"
        notes += [
            f"{other.name}: {'; '.join(different)}"
            for other, facts in stored_engines(folder, stage, targets, bundle.precision)
            if other != path and (different := differences(facts, wanted))
        ]
        if notes and refuse_stale:
            raise EngineError("an engine was found that does not fit here, and nothing was built:\n" + "\n".join(notes))
        start = time.perf_counter()
        timing = folder / f"timing_{tools.library}_{tools.version}_{tools.target}.cache"
        plan, tensors = build_plan(bundle, stage, targets, options, tools, timing)
        facts = write_engine(path, dataclasses.replace(wanted, tensors=tensors), plan)
        return Built(path, facts, state, time.perf_counter() - start, tuple(notes))
