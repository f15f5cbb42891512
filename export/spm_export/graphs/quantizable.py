"""What of each model int8 can round, and with which codes: the table that :mod:`spm_export.graphs.int8` reads.

Two layouts of codes keep two products within 16 bits, in which CPUs without VNNI add them. AlexNet's inputs are
unbounded, so the codes end at 127 and so do the weights'. The light model's activations end at 6: there the codes go to
255, whose end is the activation's, which rounding then does by itself, and weights to 64.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from spm_rt.models import lite0
from spm_rt.settings import ModelSpec

INPUT_LEVELS, WEIGHT_LIMIT = 127, 127
"""The highest codes of inputs and weights where activations have no limit."""
RELATION = ("relate_proposal", "linear1", "linear2")


@dataclasses.dataclass(frozen=True)
class Quantizable:
    """What int8 can round in one model.

    Attributes:
        search: layers of the search graph in the order of computation.
        following: layers, and sums by the name of their block, whose result is another layer's input, and is rounded
            once for both.
        balanced: layers whose input is divided by a factor per channel, and the weights of what computes the input,
            which are divided instead: that costs nothing. Where there are none, the division is an operator, on a small
            map.
        rounded_outputs: layers whose outputs are rounded, by form of graph. ONNX Runtime (``fast_expanded``) makes
            integer operators only of layers that are rounded on all sides, biases too. OpenVINO (``fast``) needs the
            inputs alone, and keeps more accuracy; what else it gets is what saves time.
        limit: of the activations of search, None where there is none.
        linear: layers of search without an activation.
        input_levels: the highest code of a layer's input; the lowest is 0.
        weight_limit: the highest code of a weight; the lowest is the same below 0.
        compensated: layers whose weights make up for each other's rounding
            (:mod:`spm_export.calibration.compensation`), convolutions with "same" padding and a bias.
    """

    search: tuple[str, ...]
    following: Mapping[str, str]
    balanced: Mapping[str, tuple[str, ...]]
    rounded_outputs: Mapping[str, tuple[str, ...]]
    limit: float | None = None
    linear: frozenset[str] = frozenset()
    input_levels: int = INPUT_LEVELS
    weight_limit: int = WEIGHT_LIMIT
    compensated: frozenset[str] = frozenset()

    @property
    def layers(self) -> dict[str, tuple[str, ...]]:
        """What can be quantised, by graph and in the order of computation."""
        return {"search": self.search, "relation": RELATION}

    @property
    def all_layers(self) -> tuple[str, ...]:
        return (*self.search, *RELATION)


_FINE_BALANCED: dict[str, tuple[str, ...]] = {
    "linear2": ("linear1.weight", "linear1.bias"),
    "relate_proposal": ("roi_scale", "roi_shift"),
    "linear1": (),
}


def _alexnet() -> Quantizable:
    search = tuple(f"conv{i}" for i in range(1, 6))
    return Quantizable(
        search,
        {"conv3": "conv4", "linear1": "linear2"},
        {"conv4": ("conv3.weight", "conv3.bias"), **_FINE_BALANCED, "conv5": ()},
        # What conv1 to conv3 write is large, and bytes are written, pooled and read in less time. Beyond conv3 the
        # maps are small, and the fine stage reads them.
        {"fast": search[:3], "fast_expanded": (*search, *RELATION)},
    )


def _light() -> Quantizable:
    search, linear = ["stem"], set()
    following = {"linear1": "linear2"}
    last = "stem"  # what computes the input of the next layer
    for i, stage in enumerate(lite0.STAGES):
        for j in range(stage.blocks):
            for layer in lite0.block_layers(i, j):
                name = f"blocks.{i}.{j}.{layer.name}"
                following[last], last = name, name
                search.append(name)
                if not layer.activated:
                    linear.add(name)
            if j:
                last = f"blocks.{i}.{j}"
    outputs = (*search, *RELATION)
    return Quantizable(
        tuple(search),
        following,
        _FINE_BALANCED,
        {"fast": outputs, "fast_expanded": outputs},
        limit=lite0.LIMIT,
        linear=frozenset(linear),
        input_levels=255,
        weight_limit=64,
        compensated=frozenset(search),
    )


ALEXNET, LIGHT = _alexnet(), _light()


def quantizable(spec: ModelSpec) -> Quantizable:
    """What int8 can round in a model of this specification."""
    return ALEXNET if spec.backbone == "alexnet" else LIGHT
