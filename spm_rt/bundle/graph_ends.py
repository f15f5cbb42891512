"""What goes in and out of an ONNX file, read without a library, and compared with the contract.

Of the file's structure (Protocol Buffers) only the fields on the way to names, types and shapes are looked at. A graph
that lies under another's name is found here, whatever library is to run it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from ..errors import BundleError
from ..fields import shortened
from ..settings import ModelSpec
from .contract import contract, tensor_type

MODEL_GRAPH = 7
SIDES = {11: "inputs", 12: "outputs"}
"""Fields of a graph."""
TYPES = {1: "float32", 10: "float16", 16: "bfloat16"}
MAPS = ("shallow", "deep")
"""Feature maps: their layout is the graphs' own affair, but for the leading axis."""
MOST_BYTES = 1 << 26
"""A graph's file has tens of kilobytes: its weights lie in another."""

Shape = tuple[int | str, ...]
Ends = dict[str, dict[str, tuple[str, Shape]]]
"""``{"inputs" | "outputs": {name: (type, shape)}}``"""


def check_ends(path: Path, stage: str, targets: int, spec: ModelSpec, precision: str) -> None:
    """Refuse a graph whose inputs or outputs are not those of its stage.

    Raises:
        BundleError: it is no ONNX file, or that of something else; the message says what differs.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes")
        found = read_ends(path.read_bytes())
    except (OSError, ValueError, IndexError) as error:
        raise BundleError(f"{path}: not an ONNX graph ({error}); run spm-export again") from error
    for side, wanted in contract(spec, targets)[stage].items():
        given = found[side]
        if given.keys() != wanted.keys():
            names = [", ".join(sorted(names)) or "none" for names in (given, wanted)]
            raise BundleError(
                f"{path}: not the graph of {stage}: its {side} are {shortened(names[0])} instead of {names[1]}; run "
                "spm-export again"
            )
        for name, shape in wanted.items():
            kind = tensor_type(name, precision)
            if given[name][0] != kind or not _same(name, given[name][1], shape):
                raise BundleError(
                    f"{path}: not a graph of {stage} for {targets} target(s): {name} is {given[name][0]} "
                    f"{list(given[name][1])} instead of {kind} {list(shape)}; run spm-export again"
                )


def _same(name: str, given: Shape, wanted: Shape) -> bool:
    """Whether a shape is the contract's: what is text there may have any name here."""
    if name in MAPS and all(isinstance(size, int) for size in given):
        return given[:1] == wanted[:1] and math.prod(map(int, given)) == math.prod(map(int, wanted))
    return len(given) == len(wanted) and all(
        isinstance(one, str) if isinstance(other, str) else one == other
        for one, other in zip(given, wanted, strict=True)
    )


def read_ends(content: bytes) -> Ends:
    """Names, types and shapes of a model's inputs and outputs.

    Raises:
        ValueError, IndexError: it is no model, or cut short.
    """
    ends: Ends = {"inputs": {}, "outputs": {}}
    graphs = [value for field, value in _fields(memoryview(content)) if field == MODEL_GRAPH]
    if len(graphs) != 1:
        raise ValueError("no graph in it")
    for field, value in _fields(_message(graphs[0])):
        if field in SIDES:
            name, kind = "", "no tensor"
            shape: Shape = ()
            for part, inner in _fields(_message(value)):
                if part == 1:
                    name = bytes(_message(inner)).decode()
                if part == 2:
                    kind, shape = _tensor(_message(inner))
            ends[SIDES[field]][name] = kind, shape
    return ends


def _tensor(content: memoryview) -> tuple[str, Shape]:
    """Type and shape of a TypeProto."""
    kind, shape = "no tensor", []
    for field, value in _fields(content):
        for part, inner in _fields(_message(value)) if field == 1 else ():
            if part == 1:
                kind = TYPES.get(inner, f"type {inner}") if isinstance(inner, int) else kind
            if part == 2:
                for number, size in _fields(_message(inner)):
                    if number == 1:
                        shape.append(_size(_message(size)))
    return kind, tuple(shape)


def _size(content: memoryview) -> int | str:
    """A dimension: a number, or the name of an open one."""
    size: int | str = "?"
    for field, value in _fields(content):
        size = value if isinstance(value, int) else bytes(value).decode() if field == 2 else size
    return size


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of each field of a message."""
    place = 0
    while place < len(content):
        key, place = _varint(content, place)
        wire, size = key & 7, {1: 8, 5: 4}.get(key & 7, 0)
        if wire == 0:
            number, place = _varint(content, place)
            yield key >> 3, number
            continue
        if wire == 2:
            size, place = _varint(content, place)
        if (not size and wire != 2) or size > len(content) - place:
            raise ValueError("cut short, or of another make")
        yield key >> 3, content[place : place + size]
        place += size


def _varint(content: memoryview, place: int) -> tuple[int, int]:
    """A number of 7 bits per byte, and where it ends."""
    number = 0
    for shift in range(0, 70, 7):
        byte = content[place]
        place += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, place
    raise ValueError("a number without an end")
