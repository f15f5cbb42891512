"""The synthetic weights are, to the bit, those that the recorded numbers were made with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ...support.synthetic import State, coarse_state, digests, fine_state

DIGESTS = json.loads((Path(__file__).parents[2] / "data" / "parity" / "weights.json").read_text())


@pytest.mark.parametrize(("name", "make"), [("cm_stage", coarse_state), ("fm_stage", fine_state)])
def test_tensors_have_the_recorded_digests(name: str, make: Callable[[], State]) -> None:
    found = digests(make())
    recorded = DIGESTS["tensors"][name]
    assert found.keys() == recorded.keys()
    assert [tensor for tensor in found if found[tensor] != recorded[tensor]] == []


def test_another_seed_gives_other_tensors() -> None:
    found = digests(fine_state(seed=8))
    assert found["rcnn_cls.weight"] != DIGESTS["tensors"]["fm_stage"]["rcnn_cls.weight"]
