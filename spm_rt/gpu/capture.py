"""Work that is launched as a CUDA graph once it has been seen to give the same."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError
from .driver import Graph, Stream

Floats = NDArray[np.float32]
SAME = 1e-4
"""Largest difference between a captured result and the usual one, relative to the largest value."""


class Choice(Protocol):
    """A backend's choice, for all its contexts."""

    graphs: bool


class Captured:
    """Work on a context's stream: put there call by call first, as a graph from the second time on.

    Args:
        stream: where the work goes.
        work: puts everything on the stream.
        answer: host array that it fills.
        choice: whose ``graphs`` says whether to capture; set to False where that cannot be done.
    """

    def __init__(self, stream: Stream, work: Callable[[], None], answer: Floats, choice: Choice) -> None:
        self._stream, self._work, self._answer, self._choice = stream, work, answer, choice
        self._graph: Graph | None = None
        self._runs = 0

    def run(self) -> None:
        if self._graph is not None:
            self._graph.launch()
            self._stream.wait()
            return
        self._work()
        self._stream.wait()
        self._runs += 1
        if self._runs == 1 and self._choice.graphs:
            self._capture()

    def _capture(self) -> None:
        """The library has set itself up in the usual run; what is captured must give the same."""
        stream, wanted = self._stream, self._answer.copy()
        try:
            graph = stream.capture(self._work)
            self._answer[:] = np.nan
            graph.launch()
            stream.wait()
            limit = SAME * max(1.0, float(np.abs(wanted).max()))
            if np.abs(self._answer - wanted).max() <= limit:
                self._graph = graph
                return
            why = "the captured result differs from the usual one"
        except BackendError as error:
            why = str(error)
        self._answer[:] = wanted
        self._choice.graphs = False
        warnings.warn(f"CUDA graphs are not used: {why}", RuntimeWarning, stacklevel=4)
