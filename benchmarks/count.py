"""``spm-bench count``: multiply-adds, counted from the ONNX files themselves."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import Any, NamedTuple

from spm_rt.bundle import STAGES, VARIANTS, VARIANTS_OF, Bundle
from spm_rt.errors import BundleError, ExportError
from spm_rt.tables import format_table

from .runners import positive

DESCRIPTION = """Multiply-adds of a bundle's graphs: convolutions and matrix products, with all shapes inferred and
functions inlined. Element-wise work, pooling and sampling are not counted, as usual, nor is what depends on weights
alone, which is computed once, at loading."""
EPILOG = """A frame costs search + relation; template is paid once per target. The released network's figure for the
same number of proposals stands beside it."""

RELEASED_COARSE = 4_981_693_456
"""Per frame in the authors' release: backbone and coarse stage (docs/model.md, "Cost")."""
RELEASED_FINE = 108_594_688
"""The same, fine stage, per proposal."""


class Layer(NamedTuple):
    """One node that multiplies."""

    name: str
    operator: str
    shape: tuple[int, ...]
    macs: int
    node: str
    """the node's name in the graph with its functions inlined"""


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="the bundle's folder")
    parser.add_argument(
        "-k", "--proposals", type=positive, default=9, metavar="K", help="proposals per frame (default 9)"
    )
    parser.add_argument("--targets", type=positive, default=1, metavar="T", help="the graphs for T targets (default 1)")
    parser.add_argument("--variant", choices=VARIANTS, default="portable", help="which form of the graphs")
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
                name,
                sum(
                    layer.macs
                    for stage in ("search", "relation")
                    for layer in count_layers(
                        bundle.graph(stage, targets=options.targets, variant=name), options.proposals
                    )
                ),
            )
            for name in VARIANTS_OF[bundle.precision]
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


def count_layers(path: Path, proposals: int) -> list[Layer]:
    """The multiplying nodes of a graph with their work, in order.

    What depends on constants alone (the transforms of Winograd's kernels) is left out: libraries compute it once, when
    they load the graph.

    Args:
        path: an ONNX file; its weights are not read, only their shapes.
        proposals: stands in for the symbolic dimension ``K``.

    Raises:
        BundleError: a multiplying node's shape cannot be inferred.
    """
    import onnx
    import onnx.inliner
    import onnx.shape_inference

    model = onnx.load(str(path), load_external_data=False)
    for value in [*model.graph.input, *model.graph.output]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param == "K":
                dimension.dim_value = proposals
    model = onnx.inliner.inline_local_functions(model)
    # Stored shapes speak of K; they are inferred anew with its value.
    del model.graph.value_info[:]
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = tuple(
            d.dim_value if d.HasField("dim_value") else -1 for d in value.type.tensor_type.shape.dim
        )
    makers = {name: node for node in graph.node for name in node.output}
    constant = _constants(graph)
    layers = []
    for node in graph.node:
        if node.op_type not in ("Conv", "ConvTranspose", "Gemm", "MatMul") or node.output[0] in constant:
            continue
        given, made = [shapes.get(name, (-1,)) for name in node.input], shapes.get(node.output[0], (-1,))
        if any(d < 1 for shape in (*given, made) for d in shape):
            raise BundleError(f"{path}: the shapes of {node.op_type} {node.name} cannot be inferred: {given} -> {made}")
        work = _multiply_adds(node, given, made)
        layers.append(Layer(_layer_name(node, makers), node.op_type, made, work, node.name))
    return layers


def _constants(graph: Any) -> set[str]:
    """Names of the values that no input of the graph has a part in."""
    found = {tensor.name for tensor in graph.initializer} - {value.name for value in graph.input}
    for node in graph.node:  # in an order in which every node comes after what it reads
        if all(not name or name in found for name in node.input):
            found.update(node.output)
    return found


def _multiply_adds(node: Any, given: list[tuple[int, ...]], made: tuple[int, ...]) -> int:
    """Work of one node from its shapes; a weight's shape already holds the division by the number of groups."""
    if node.op_type == "Conv":
        return math.prod(made) * math.prod(given[1][1:])
    if node.op_type == "ConvTranspose":
        return math.prod(given[0]) * math.prod(given[1][1:])
    if node.op_type == "MatMul":
        return math.prod(made) * given[0][-1]
    transposed = any(a.name == "transA" and a.i for a in node.attribute)
    return math.prod(made) * given[0][0 if transposed else 1]


def _layer_name(node: Any, makers: dict[str, Any]) -> str:
    """The weight's name without ``.weight``, int8 or not; a computed weight is named after what it was made from."""
    return _source(str(node.input[1]), makers).removesuffix("_int8").removesuffix(".weight")


def _source(name: str, makers: dict[str, Any]) -> str:
    """What a value was before it got another shape or type, or the transform that Winograd's kernels go through."""
    while name in makers and makers[name].op_type in ("Reshape", "Unsqueeze", "Transpose", "Cast", "DequantizeLinear"):
        name = str(makers[name].input[0])
    if name in makers and makers[name].op_type == "MatMul":
        kernels = (_source(str(side), makers) for side in reversed(makers[name].input))
        return next((kernel for kernel in kernels if kernel.endswith(".weight")), name)
    return name
