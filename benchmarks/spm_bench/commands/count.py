"""``spm-bench count``: multiply-adds, counted from the ONNX files themselves."""

from __future__ import annotations

import argparse

from spm_rt.bundle import FORMS, STAGES, Bundle
from spm_rt.bundle.forms import forms_of
from spm_rt.terminal import real_number

from ..options import Outcome, add_bundle, add_json, add_number
from ..profiling.multiply_adds import Layer, count_layers
from ..tables import table

DESCRIPTION = """Multiply-adds of a bundle's graphs: convolutions and matrix products, with all shapes inferred and
functions inlined. Element-wise work, pooling and sampling are not counted, as usual, nor is what depends on weights
alone, which is computed once, at loading."""
EPILOG = """A frame costs search + relation; template is paid once per target. The released network's figure for the
same number of proposals stands beside it."""

RELEASED_COARSE = 4_981_693_456
"""Per frame in the authors' release: backbone and coarse stage."""
RELEASED_FINE = 108_594_688
"""The same, fine stage, per proposal."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_bundle(parser)
    add_number(parser, "-k --proposals", 9, "proposals per frame", "K")
    add_number(parser, "--targets", 1, "the graphs for T targets", "T")
    parser.add_argument("--variant", choices=tuple(FORMS), default="portable", help="which form of the graphs")
    limit = real_number(above=True)
    parser.add_argument("--limit", type=limit, metavar="GMAC", help="exit with 1 if a frame costs more")
    add_json(parser)


def run(options: argparse.Namespace) -> Outcome:
    bundle = Bundle.open(options.bundle)

    def layers_of(stage: str, variant: str) -> list[Layer]:
        return count_layers(bundle.graph(stage, targets=options.targets, variant=variant), options.proposals)

    layers = {stage: layers_of(stage, options.variant) for stage in STAGES}
    totals = {stage: _work(counted) for stage, counted in layers.items()}
    frame = totals["search"] + totals["relation"]
    released = options.targets * (RELEASED_COARSE + RELEASED_FINE * options.proposals)
    within = options.limit is None or frame <= options.limit * 1e9
    report = {
        "proposals": options.proposals,
        "targets": options.targets,
        "graphs": {
            stage: {"macs": totals[stage], "layers": [layer._asdict() for layer in counted]}
            for stage, counted in layers.items()
        },
        "frame_macs": frame,
        "frame_gmac": frame / 1e9,
        "released_gmac": released / 1e9,
        "within_limit": within,
    }

    def text() -> str:
        forms = {
            form.name: _work(layers_of("search", form.name)) + _work(layers_of("relation", form.name))
            for form in forms_of(bundle.precision)
        }
        return (
            f"{count_table(layers, totals)}\n\nmillion MAC a frame, by form of the graphs: "
            + ", ".join(f"{name} {work / 1e6:.0f}" for name, work in forms.items())
            + f"\na frame at K = {options.proposals}: {frame / 1e9:.3f} GMAC (search + relation); the released network "
            f"needs {released / 1e9:.2f}, {released / frame:.2f} times as much"
        )

    message = "" if within else f"{frame / 1e9:.3f} GMAC a frame, over the limit of {options.limit:g}"
    return Outcome(report, text, within, message)


def _work(layers: list[Layer]) -> int:
    return sum(layer.macs for layer in layers)


def count_table(layers: dict[str, list[Layer]], totals: dict[str, int]) -> str:
    rows = []
    for stage, counted in layers.items():
        for layer in (*counted, Layer("total", "", (), totals[stage], "")):
            shape, share = " x ".join(map(str, layer.shape)), layer.macs / max(totals[stage], 1)
            rows.append({**layer._asdict(), "stage": stage, "shape": shape, "mmac": layer.macs / 1e6, "share": share})
    columns = "graph {stage} | layer {name} | operator {operator} | output {shape} | million MAC {mmac:.3f}"
    return table(columns + " | share {share:.1%}", rows)
