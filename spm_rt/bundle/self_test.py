"""The self-test: a few numbers in the manifest that the reference gave for an input which a formula describes.

An engine that was built, stored and loaded on another machine with another library must give the same numbers before
it is used. What is wrong altogether shows here (weights, layout, operator, precision), not the last digits.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

BOX = (94.0, 90.0, 178.0, 182.0)
"""The target in crop pixels; the input is template and search crop in one."""
SQUARE = 9
"""Side of the picture's squares, in pixels."""
MOST_PROPOSALS = 4
OUTPUTS = ("search.scores", "search.boxes", "relation.scores", "relation.boxes")


def self_test_crop(size: int) -> Floats:
    """The input, float32 ``[1, 3, size, size]``, whole numbers from 0 to 255: squares of colours that a hash chose.

    Square ``n`` of the three planes, one after the other and row by row, has the highest byte of ``n + 1`` after twice
    multiplying by an odd constant and folding the upper bits down, modulo 2^32.
    """
    across = -(-size // SQUARE)
    value = np.arange(1, 3 * across * across + 1, dtype=np.uint64)
    for factor, shift in ((2654435761, 15), (2246822519, 13)):
        value = (value * np.uint64(factor)) & np.uint64(0xFFFFFFFF)
        value ^= value >> np.uint64(shift)
    squares = (value >> np.uint64(24)).astype(np.float32).reshape(3, across, across)
    return squares.repeat(SQUARE, axis=1).repeat(SQUARE, axis=2)[None, :, :size, :size].copy()


def self_test_box() -> Floats:
    """The target, ``[1, 4]``."""
    return np.array([BOX], np.float32)


def self_test_proposals(count: int) -> Floats:
    """``[1, count, 4]``: the target, and the same moved to the right and down by 12 pixels each, and ever so on."""
    moved: Floats = self_test_box()[:, None] + np.float32(12) * np.arange(count, dtype=np.float32)[None, :, None]
    return moved


@dataclasses.dataclass(frozen=True)
class SelfTest:
    """What the reference gave, in float32.

    Attributes:
        positions: rows of search's outputs that are kept.
        outputs: by name (``OUTPUTS``): scores ``[n]`` and boxes ``[n, 4]`` of search at the positions, and of relation
            for :func:`self_test_proposals`.
        allowed: largest difference by name.
    """

    positions: tuple[int, ...]
    outputs: dict[str, Floats]
    allowed: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        outputs = {name: [float(f"{v:.7g}") for v in array.ravel().tolist()] for name, array in self.outputs.items()}
        return {"positions": list(self.positions), "outputs": outputs, "allowed": dict(self.allowed)}

    @classmethod
    def from_json(cls, content: dict[str, Any], anchors: int) -> SelfTest:
        """Read it, strictly.

        Args:
            content: of the manifest.
            anchors: rows that search has.

        Raises:
            KeyError, TypeError, ValueError: it is not what ``to_json`` gives.
        """
        positions = tuple(content["positions"])
        if not positions or not all(isinstance(n, int) and 0 <= n < anchors for n in positions):
            raise ValueError(f"self-test: positions must be rows from 0 to {anchors - 1}")
        if set(content) != {"positions", "outputs", "allowed"} or any(
            set(content[part]) != set(OUTPUTS) for part in ("outputs", "allowed")
        ):
            raise ValueError(f"self-test: positions, outputs and allowed are needed, of {', '.join(OUTPUTS)}")
        outputs, allowed = {}, {name: float(content["allowed"][name]) for name in OUTPUTS}
        proposals = len(content["outputs"]["relation.scores"])
        for name in OUTPUTS:
            rows = len(positions) if name.startswith("search") else proposals
            shape = (rows, 4) if name.endswith("boxes") else (rows,)
            with np.errstate(over="ignore"):  # what is no float32 is refused below
                outputs[name] = np.array(content["outputs"][name], np.float32).reshape(shape)
            if not np.isfinite(outputs[name]).all() or not 0 < allowed[name] < np.inf:
                raise ValueError(f"self-test: {name} must be finite, and what is allowed a positive number")
        if not 1 <= proposals <= MOST_PROPOSALS:
            raise ValueError(f"self-test: 1 to {MOST_PROPOSALS} proposals are needed")
        return cls(positions, outputs, allowed)

    @property
    def proposals(self) -> int:
        return len(self.outputs["relation.scores"])

    def differences(self, found: dict[str, Floats]) -> dict[str, float]:
        """Largest difference by name; infinite where something is not finite."""
        worst = {}
        for name, wanted in self.outputs.items():
            error = np.abs(found[name].astype(np.float64) - wanted)
            worst[name] = float(error.max()) if np.isfinite(error).all() else float("inf")
        return worst

    def deviations(self, found: dict[str, Floats]) -> str:
        """What differs by more than is allowed, in words; empty if nothing does."""
        worst = self.differences(found)
        return ", ".join(
            f"{name} by {error:.3g} ({self.allowed[name]:.3g} allowed)"
            for name, error in worst.items()
            if not error <= self.allowed[name]
        )


def observe(context: Any, positions: tuple[int, ...], proposals: int) -> dict[str, Floats]:
    """The same numbers from a context for one target (:class:`spm_rt.backends.protocol.Context`)."""
    context.crop[:] = self_test_crop(context.crop.shape[-1])
    context.set_template(self_test_box())
    scores, boxes = context.search()
    rows = list(positions)
    found = {"search.scores": scores[0, rows].copy(), "search.boxes": boxes[0, rows].copy()}
    fine_scores, fine_boxes = context.relate(self_test_proposals(proposals))
    return {**found, "relation.scores": fine_scores[0].copy(), "relation.boxes": fine_boxes[0].copy()}
