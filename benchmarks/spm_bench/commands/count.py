"""``spm-bench count``: multiply-adds, counted from the ONNX files themselves."""

from __future__ import annotations

import argparse
import json

from spm_rt.bundle import FORMS, STAGES, Bundle
from spm_rt.bundle.forms import forms_of
from spm_rt.errors import ExportError
from spm_rt.terminal import format_table

from ..common import positive
from ..profiling.multiply_adds import Layer, count_layers

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
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "-k", "--proposals", type=positive, default=9, metavar="K", help="proposals per frame (default 9)"
    )
    parser.add_argument("--targets", type=positive, default=1, metavar="T", help="the graphs for T targets (default 1)")
    parser.add_argument("--variant", choices=tuple(FORMS), default="portable", help="which form of the graphs")
    parser.add_argument("--limit", type=float, metavar="GMAC", help="exit with 1 if a frame costs more")
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")


def run(options: argparse.Namespace) -> int:
    bundle = Bundle.open(options.bundle)
    paths = {stage: bundle.graph(stage, targets=options.targets, variant=options.variant) for stage in STAGES}
    layers = {stage: count_layers(path, options.proposals) for stage, path in paths.items()}
    totals = {stage: sum(layer.macs for layer in found) for stage, found in layers.items()}
    frame = totals["search"] + totals["relation"]
    released = options.targets * (RELEASED_COARSE + RELEASED_FINE * options.proposals)
    within = options.limit is None or frame <= options.limit * 1e9
    if options.json:
        graphs = {
            stage: {"macs": totals[stage], "layers": [layer._asdict() for layer in found]}
            for stage, found in layers.items()
        }
        print(
            json.dumps(
                {
                    "proposals": options.proposals,
                    "targets": options.targets,
                    "graphs": graphs,
                    "frame_macs": frame,
                    "frame_gmac": frame / 1e9,
                    "released_gmac": released / 1e9,
                    "within_limit": within,
                },
                indent=1,
            )
        )
    else:
        print(count_table(layers, totals))
        forms = [
            (
                form.name,
                sum(
                    layer.macs
                    for stage in ("search", "relation")
                    for layer in count_layers(
                        bundle.graph(stage, targets=options.targets, variant=form.name), options.proposals
                    )
                ),
            )
            for form in forms_of(bundle.precision)
        ]
        print("\nmillion MAC a frame, by form of the graphs: " + ", ".join(f"{n} {m / 1e6:.0f}" for n, m in forms))
        print(
            f"a frame at K = {options.proposals}: {frame / 1e9:.3f} GMAC (search + relation); the released network "
            f"needs {released / 1e9:.2f}, {released / frame:.2f} times as much"
        )
    if not within:
        raise ExportError(f"{frame / 1e9:.3f} GMAC a frame, over the limit of {options.limit:g}")
    return 0


def count_table(layers: dict[str, list[Layer]], totals: dict[str, int]) -> str:
    rows = []
    for stage, found in layers.items():
        rows += [
            [
                stage,
                layer.name,
                layer.operator,
                " x ".join(map(str, layer.shape)),
                f"{layer.macs / 1e6:.3f}",
                f"{layer.macs / max(totals[stage], 1):.1%}",
            ]
            for layer in found
        ]
        rows.append([stage, "total", "", "", f"{totals[stage] / 1e6:.3f}", "100.0%"])
    return format_table(["graph", "layer", "operator", "output", "million MAC", "share"], rows)
