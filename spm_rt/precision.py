"""What graphs and backends may compute in: one table, and the spellings that are accepted for its names."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from .errors import SettingsError


@dataclasses.dataclass(frozen=True)
class Precision:
    """A type of number that a bundle's graphs, or a backend, compute in.

    Attributes:
        name: the spelling of manifests, reports and this package's functions.
        alias: another spelling that is accepted; empty if there is none.
        hands_on: type of the tensors that one graph hands to the next (:data:`spm_rt.bundle.contract.HANDED_ON`).
        lowest_opset: ONNX operator set from which on its graphs can be written.
        for_cpus: whether bundles of it hold graphs for CPUs; all hold graphs for GPUs.
    """

    name: str
    alias: str = ""
    hands_on: str = "float32"
    lowest_opset: int = 17
    for_cpus: bool = True


PRECISIONS = {
    precision.name: precision
    for precision in (
        Precision("float32", "fp32"),
        Precision("float16", "fp16", hands_on="float16", for_cpus=False),
        # Conv and MaxPool take bfloat16 from operator set 22 on.
        Precision("bfloat16", "bf16", hands_on="bfloat16", lowest_opset=22, for_cpus=False),
        # The layers of int8 graphs round what they read themselves.
        Precision("int8"),
    )
}
"""Name -> precision."""
FLOATS = tuple(name for name in PRECISIONS if name != "int8")
"""Those in which any layer can be computed without a calibration."""


def parse_precision(text: str, among: Iterable[str] = PRECISIONS) -> str:
    """The name of a precision from its name or its alias.

    Args:
        text: ``float32``, ``fp32``, ...
        among: names that are to be had.

    Raises:
        SettingsError: it is none of them; the message lists what there is.
    """
    offered = [PRECISIONS[name] for name in among]
    for precision in offered:
        if text and text in (precision.name, precision.alias):
            return precision.name
    names = ", ".join(p.name + (f" ({p.alias})" if p.alias else "") for p in offered)
    raise SettingsError(f"precision {text!r} is unknown; there are: {names}")


def precision_argument(text: str) -> str:
    """The name of a precision from any spelling of it, as argparse wants the function of a ``type``."""
    import argparse  # commands alone need it

    try:
        return parse_precision(text)
    except SettingsError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
