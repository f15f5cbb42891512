"""Engine files: what is known about each, where they are kept, and when one may be loaded.

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
import platform
from pathlib import Path
from typing import Any

from ..bundle import Bundle
from ..bundle.forms import form_for
from ..errors import BundleError, EngineError
from ..files import seal_manifest
from .store import VARIABLE, cache_folder, facts_key, read_own

FORMAT = "spm_rt engine"
FORMAT_VERSION = 1
KIND = "engines"
PORTABLE = "portable"
"""Target of a TensorRT for RTX plan that was made for no card in particular: compute capability 8.0 and later."""
AMPERE_PLUS = "ampere_plus"
"""Target of a hardware-compatible TensorRT plan: compute capability 8.0 and later."""

RESULTS = ("tensors", "plan_sha256", "plan_bytes")
"""Fields that are known once an engine is built; the key of an engine is made of all others."""
TUNING = ("workspace", "version_compatible", "variant", "tf32")
"""Fields that are no reason to refuse an engine."""


@dataclasses.dataclass(frozen=True)
class EngineTensor:
    """One input or output of an engine: ``mode`` is ``input`` or ``output``, ``dtype`` NumPy's name (or bfloat16)."""

    name: str
    mode: str
    dtype: str
    shape: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class EngineFacts:
    """What an engine was made of, and for what.

    Attributes:
        stage: ``template``, ``search`` or ``relation``.
        targets: leading axis of every tensor.
        proposals: K, the fixed number of proposals per target (of the relation engine; 0 in the others).
            Trackers that ask for fewer use it too, resident ones not.
        precision: the bundle's: ``float32``, ``float16``, ``bfloat16`` or ``int8``.
        variant: the form of the graph, ``portable`` or ``flat``.
        graph_sha256: of the ONNX file.
        weights_sha256: of the weights file that it refers to.
        library: ``tensorrt`` or ``tensorrt_rtx``.
        version: of the library, as it gives it, all four parts.
        target: ``sm_86``; several as ``sm_86+sm_120``; ``portable`` (RTX) or ``ampere_plus`` (hardware-compatible).
        gpu: name of the card that the plan is bound to; empty where it is bound to none.
        platform: operating system and processor, ``linux_x86_64``.
        tf32: whether float32 products may be computed in TF32; an exact engine is preferred.
        version_compatible: whether later versions of the same major version may load it.
        workspace: scratch memory that the builder was allowed, bytes; 0 for the library's own limit.
        plugin_sha256: of the RoI plugin's code; empty where the graph's own body was compiled.
        tensors: inputs and outputs, as the parsed network has them.
        plan_sha256: of the plan.
        plan_bytes: the plan's size.
    """

    stage: str
    targets: int
    proposals: int
    precision: str
    variant: str
    graph_sha256: str
    weights_sha256: str
    library: str
    version: str
    target: str
    gpu: str = ""
    platform: str = ""
    tf32: bool = False
    version_compatible: bool = False
    workspace: int = 0
    plugin_sha256: str = ""
    tensors: tuple[EngineTensor, ...] = ()
    plan_sha256: str = ""
    plan_bytes: int = 0

    @property
    def maker(self) -> str:
        """For people: ``sm_86 (NVIDIA A10) with tensorrt 10.8.0.43``."""
        card = f" ({self.gpu})" if self.gpu else ""
        return f"{self.target}{card} with {self.library} {self.version}"


def this_platform() -> str:
    return f"{platform.system().lower()}_{platform.machine().lower()}"


def graph_form(library: str, version: str) -> str:
    """The form of the graphs that a library is given: before TensorRT 10.7, functions win over plugins."""
    if library == "tensorrt_rtx":
        return form_for("TensorRT for RTX")
    return form_for("TensorRT" if version_numbers(version) >= (10, 7) else "TensorRT before 10.7")


def version_numbers(version: str) -> tuple[int, ...]:
    """``10.8.0.43`` as numbers."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def engine_facts(
    bundle: Bundle, stage: str, *, targets: int = 1, proposals: int | None = None, **made: Any
) -> EngineFacts:
    """The facts of the engine of one of a bundle's graphs, before it is built: what it is built and looked for by.

    Args:
        bundle: a verified bundle.
        stage: ``template``, ``search`` or ``relation``.
        targets: leading axis of every tensor.
        proposals: K; by default as many as the bundle's tracker settings ask for.
        made: the other fields of :class:`EngineFacts`: ``library``, ``version`` and ``target`` at least. ``variant`` is
            by default what :func:`graph_form` says.
    """
    variant = str(made.pop("variant", "") or graph_form(made["library"], made["version"]))
    files = bundle.manifest["files"]
    graph = bundle.graph(stage, targets=targets, variant=variant).name
    weights = [str(facts["sha256"]) for name, facts in sorted(files.items()) if name.endswith(".safetensors")]
    count = bundle.settings.num_candidates if proposals is None else proposals
    return EngineFacts(
        stage,
        targets,
        count if stage == "relation" else 0,
        str(bundle.manifest["precision"]),
        variant,
        str(files[graph]["sha256"]),
        weights[0] if len(weights) == 1 else hashlib.sha256("".join(weights).encode()).hexdigest(),
        **{"platform": this_platform(), **made},
    )


def engine_folder() -> Path:
    """The user's own engines: ``engines`` in the cache folder (:func:`spm_rt.cache.store.cache_folder`); not made here.

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


def engine_key(facts: EngineFacts) -> str:
    """32 hexadecimal digits that stand for all that an engine was made of and for."""
    return facts_key({name: value for name, value in dataclasses.asdict(facts).items() if name not in RESULTS})


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


def differences(built: EngineFacts, wanted: EngineFacts) -> list[str]:
    """Why an engine cannot be used where ``wanted`` is asked for, in words; empty where it can."""
    found = []
    if not (_same_library(built, wanted) and _runs_on(built, wanted)):
        found.append(f"built for {built.maker}; this is {wanted.maker}")
    if built.platform != wanted.platform:
        found.append(f"built on {built.platform}; this is {wanted.platform}")
    if (built.graph_sha256, built.weights_sha256) != (wanted.graph_sha256, wanted.weights_sha256):
        found.append("built from another bundle (or from an older export)")
    if built.plugin_sha256 != wanted.plugin_sha256:
        names = ["plugin " + p[:12] if p else "no plugin" for p in (built.plugin_sha256, wanted.plugin_sha256)]
        found.append(f"built with {names[0]} instead of {names[1]}")
    for name in ("stage", "targets", "proposals", "precision"):
        given, asked = getattr(built, name), getattr(wanted, name)
        if given < asked if name == "proposals" else given != asked:
            found.append(f"{name} is {given} instead of {asked}")
    return found


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
        with contextlib.suppress(EngineError):
            found.append((sidecar.with_suffix(".plan"), read_facts(sidecar)))
    return found


def compute_capability(target: str) -> tuple[int, int] | None:
    """``sm_86`` as (8, 6); None for what is not one GPU."""
    digits = target.removeprefix("sm_")
    return (int(digits[:-1]), int(digits[-1])) if target.startswith("sm_") and digits.isdigit() and digits[1:] else None


def _same_library(built: EngineFacts, wanted: EngineFacts) -> bool:
    first, here = version_numbers(built.version), version_numbers(wanted.version)
    later = built.version_compatible and first[:1] == here[:1] and first <= here
    return built.library == wanted.library and (built.version == wanted.version or later)


def _runs_on(built: EngineFacts, wanted: EngineFacts) -> bool:
    if built.gpu and wanted.gpu and built.gpu != wanted.gpu:
        return False
    if built.target in (PORTABLE, AMPERE_PLUS) and (compute_capability(wanted.target) or (0, 0)) >= (8, 0):
        return True
    return wanted.target in (built.target, *built.target.split("+"))


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
    return f"Build it here: spm-export BUNDLE --engine {library} --targets {wanted.targets}{count}"
