"""Files of a bundle's graphs: one file of weights, to which the graph files refer."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import CheckerPass, NameFixPass, ShapeInferencePass

WEIGHTS = "weights.safetensors"
INLINE_BYTES = 1024
"""Tensors up to this size stay inside the graph files."""


def tensor_spans(path: Path) -> dict[str, tuple[int, int]]:
    """Offset and length of each tensor in a safetensors file (8 bytes of length, a JSON header, the data)."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    return {
        name: (8 + length + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in header.items()
        if name != "__metadata__"
    }


def save_graph(model: ir.Model, path: Path, spans: dict[str, tuple[int, int]]) -> None:
    """Name and infer everything, move the large tensors' bytes to the shared file, check, and write."""
    NameFixPass()(model)
    for function in model.functions.values():
        _rename_inside(function)
    ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    CheckerPass(full_check=True)(model)
    for name, value in model.graph.initializers.items():
        tensor = value.const_value
        assert tensor is not None
        if tensor.nbytes > INLINE_BYTES:
            offset, length = spans[name]
            assert length == tensor.nbytes
            shape = ir.Shape(tensor.shape.numpy())
            value.const_value = ir.ExternalTensor(
                WEIGHTS, offset, length, tensor.dtype, shape=shape, name=name, base_dir=path.parent
            )
    ir.save(model, path)
    onnx.checker.check_model(str(path))


def _rename_inside(function: ir.Function) -> None:
    """Give a function's values and nodes names that the graph around it does not use.

    ONNX lets each have names of its own, but TensorRT's parser takes values of the same name for one another: a
    constant of the body then stands in for one of the graph.
    """
    for value in (*function.inputs, *(value for node in function for value in node.outputs)):
        value.name = f"{function.name}_{value.name}"
    for node in function:
        node.name = f"{function.name}_{node.name}"
