"""What is known of an engine: what it was made of and for, and why it cannot be used where another is wanted."""

from __future__ import annotations

import dataclasses
import hashlib
import platform
from typing import Any

from ..bundle import Bundle
from ..bundle.forms import form_for
from ..store import facts_key

PORTABLE = "portable"
"""Target of a TensorRT for RTX plan that was made for no card in particular: compute capability 8.0 and later."""
AMPERE_PLUS = "ampere_plus"
"""Target of a hardware-compatible TensorRT plan: compute capability 8.0 and later."""
RTX_TARGETS = ((7, 5), (8, 0), (8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities that TensorRT for RTX compiles for, up to :data:`RTX_KNOWN`; it runs on all later ones too."""
RTX_KNOWN = (1, 7)
"""The latest version of TensorRT for RTX whose cards are known here; later ones are asked themselves."""
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


def rtx_refusal(capability: tuple[int, int], version: str) -> str:
    """Why TensorRT for RTX does not run on a card; empty where it does, or where it has to be asked.

    Args:
        capability: compute capability of the card, (9, 0) for 9.0.
        version: of the library.
    """
    if capability in RTX_TARGETS or capability > RTX_TARGETS[-1] or version_numbers(version)[:2] > RTX_KNOWN:
        return ""
    taken = ", ".join(f"{major}.{minor}" for major, minor in RTX_TARGETS)
    return (
        f"TensorRT for RTX {version} does not run on compute capability {capability[0]}.{capability[1]}, only on "
        f"{taken} and later"
    )


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


def engine_key(facts: EngineFacts) -> str:
    """32 hexadecimal digits that stand for all that an engine was made of and for."""
    return facts_key({name: value for name, value in dataclasses.asdict(facts).items() if name not in RESULTS})


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
