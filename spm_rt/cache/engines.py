"""Engine files: where they are kept, and when one may be loaded.

An engine (a TensorRT *plan*) holds machine code. It is therefore loaded only from a folder and file that belong to this
user and that nobody else can write to, and only when it is, byte for byte, what the JSON file beside it says. That file
(the *sidecar*) records what the plan was made of and made for; docs/reference/engines.md describes both.

This module reads. :mod:`spm_engines` builds and writes; nothing here needs TensorRT.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..errors import BundleError, EngineError
from ..files import seal_manifest
from ..log import Logger
from ..store import VARIABLE, cache_folder, read_own
from .engine_facts import (
    AMPERE_PLUS,
    PORTABLE,
    EngineFacts,
    EngineTensor,
    compute_capability,
    differences,
    engine_facts,
    engine_key,
)

logger = Logger(__name__)

FORMAT = "spm_rt engine"
FORMAT_VERSION = 1
KIND = "engines"


def engine_folder() -> Path:
    """The user's own engines: ``engines`` in the cache folder (:func:`spm_rt.store.cache_folder`); not made here.

    Raises:
        EngineError: nothing shall be kept, or the user has no home.
    """
    folder = cache_folder(KIND)
    if folder is None:
        raise EngineError(
            f"no folder of engines: {VARIABLE} is off, or there is no home folder. Set {VARIABLE}=FOLDER, to build and "
            f"to load them; `spm-export BUNDLE --engine ... --cache FOLDER` builds for a later {VARIABLE}=FOLDER"
        )
    return folder


def engine_path(folder: Path, facts: EngineFacts) -> Path:
    """Where the plan with these facts lies; its sidecar has the suffix ``.json`` instead of ``.plan``."""
    return folder / f"{facts.stage}_t{facts.targets}_{facts.precision}_{facts.target}_{engine_key(facts)}.plan"


def read_engine(path: Path, expected: EngineFacts) -> bytes:
    """A plan that may be loaded: this user's own, unaltered, and made of what is expected and for what is here.

    Args:
        path: the plan, ``*.plan``, with its sidecar beside it.
        expected: what it must have been made of, and where it is to run: ``target`` is this GPU (``sm_90``), ``gpu``
            its name, ``version`` that of the library that will load it. The fields in ``RESULTS`` and ``TUNING`` do
            not matter.

    Raises:
        EngineError: it is missing, damaged, somebody else's, or made for something else; the message says what differs.
    """
    for _ in range(3):
        facts = read_facts(path)
        different = differences(facts, expected)
        if different:
            raise EngineError(f"{path}: {'; '.join(different)}. {_again(expected)}")
        plan = _read(path)
        if len(plan) == facts.plan_bytes and hashlib.sha256(plan).hexdigest() == facts.plan_sha256:
            return plan
        if read_facts(path) == facts:  # otherwise it was just built anew: look again
            break
    raise EngineError(
        f"{path}: not the plan that was built (its sha256 differs from the one in {path.with_suffix('.json').name}); "
        f"damaged or altered, it is not loaded. {_again(expected)}"
    )


def read_facts(path: Path) -> EngineFacts:
    """What the sidecar of the plan ``path`` says, if it is whole, unaltered and this user's own.

    Raises:
        EngineError: otherwise.
    """
    sidecar = path.with_suffix(".json")
    raw = _read(sidecar)
    try:
        content = json.loads(raw)
        if content.get("format") != FORMAT or content.get("format_version") != FORMAT_VERSION:
            found = f"{content.get('format')!r}, version {content.get('format_version')!r}"
            raise EngineError(f"{sidecar}: {found}; this version of spm_rt reads {FORMAT!r}, version {FORMAT_VERSION}")
        if seal_manifest(content) != raw:
            raise EngineError(f"{sidecar}: altered after the build (its own sha256 differs); build the engine again")
        tensors = tuple(EngineTensor(t["name"], t["mode"], t["dtype"], tuple(t["shape"])) for t in content["tensors"])
        given = {field.name: content[field.name] for field in dataclasses.fields(EngineFacts)}
        return EngineFacts(**{**given, "tensors": tensors})
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, EngineError):
            raise
        raise EngineError(f"{sidecar}: cut short or of another make ({error}); build the engine again") from error


def seal_facts(facts: EngineFacts) -> bytes:
    """The sidecar's bytes: the facts as JSON with their own digest, the only form in which they are accepted."""
    return seal_manifest({"format": FORMAT, "format_version": FORMAT_VERSION, **dataclasses.asdict(facts)})


def find_engine(folder: Path, bundle: Bundle, stage: str, *, targets: int = 1, **here: Any) -> tuple[Path, EngineFacts]:
    """The engine of one of a bundle's graphs that is to be loaded, of those that :func:`spm_engines.build` made.

    Of several, an exact one is taken before one with TF32, one with the RoI plugin before one without, then the one for
    fewest proposals and the one for fewest cards. All have room for the proposals that the bundle's settings ask for.

    Args:
        folder: where engines are kept (:func:`engine_folder`).
        bundle: a verified bundle.
        stage: ``template``, ``search`` or ``relation``.
        targets: leading axis of every tensor.
        here: ``library``, ``version``, ``target`` (this GPU, ``sm_90``) and ``gpu`` (its name).

    Returns:
        The plan and what its sidecar says. The plan itself has not been read; :func:`read_engine` does that.

    Raises:
        EngineError: there is none; engines of the same graph that were made for something else are named.
    """
    wanted = engine_facts(bundle, stage, targets=targets, **here)
    fitting, others = [], []
    for path, facts in stored_engines(folder, stage, targets, wanted.precision):
        asked = wanted
        with contextlib.suppress(BundleError):  # a form that this bundle does not have
            asked = engine_facts(
                bundle, stage, targets=targets, variant=facts.variant, plugin_sha256=facts.plugin_sha256, **here
            )
        different = differences(facts, asked)
        if different:
            others.append(f"\n  {path.name}: {'; '.join(different)}")
        else:
            cards = (facts.target != wanted.target, facts.target in (PORTABLE, AMPERE_PLUS))
            fitting.append(((facts.tf32, not facts.plugin_sha256, facts.proposals, *cards), path, facts))
    if fitting:
        return min(fitting, key=lambda each: each[:2])[1:]
    what = f"{folder}: no engine of {stage} for {targets} target(s) in {wanted.precision}"
    raise EngineError(f"{what} that fits {wanted.maker}. {_again(wanted)}" + "".join(others))


def stored_engines(folder: Path, stage: str, targets: int, precision: str) -> list[tuple[Path, EngineFacts]]:
    """The engines in a folder by their sidecars, those that cannot be read left out."""
    found = []
    for sidecar in sorted(folder.glob(f"{stage}_t{targets}_{precision}_*.json")):
        try:
            found.append((sidecar.with_suffix(".plan"), read_facts(sidecar)))
        except EngineError as error:
            logger.warning("passed over: %s", str(error))
    return found


def _read(path: Path) -> bytes:
    """A file of the cache, if it is a plain one that nobody else can have put there or changed."""
    try:
        return read_own(path)
    except FileNotFoundError as error:
        raise EngineError(f"{path}: no such engine; `spm-export BUNDLE --engine ...` builds it") from error
    except OSError as error:
        raise EngineError(
            f"{error.filename or path}: {error.strerror or error}; engines are machine code, loaded only from plain "
            "files that are your own"
        ) from error


def _again(wanted: EngineFacts) -> str:
    count = f" --proposals {wanted.proposals}" if wanted.proposals else ""
    library = wanted.library.replace("_", "-")
    card = compute_capability(wanted.target)
    # Its portable plan is for 8.0 and later; an older card has to be named.
    named = f" --compute-capability {card[0]}.{card[1]}" if library == "tensorrt-rtx" and card and card < (8, 0) else ""
    return f"Build it here: spm-export BUNDLE --engine {library} --targets {wanted.targets}{count}{named}"
