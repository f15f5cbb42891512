"""Work that is launched as a CUDA graph once a graph of it has given what launching it step by step gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import BackendError

TOLERANCE = 1e-4
"""Largest difference between what a graph gives and what the same work gave step by step."""


class GraphChoice(Protocol):
    """Whoever decides, for several works, whether graphs are used."""

    graphs: bool


class CapturedWork:
    """Work on fixed buffers: put on a stream step by step first, then captured, compared, and launched as a graph.

    A graph that cannot be had, or gives something else, is given up for good, with a warning; the work is then done
    once more step by step, since its buffers may hold anything.

    Args:
        work: puts everything on the stream.
        capture: records what a function puts on the stream; what it returns launches the recording.
        wait: returns when the stream's work is done.
        outputs: host arrays that the work fills, by name.
        choice: whose ``graphs`` says whether to capture; set to False where that cannot be done.
        warm_ups: runs before the capture, in which libraries set themselves up.
        rewind: puts back what the work reads and changes; work that changes nothing it reads needs none.
        relative: differences count relative to an output's largest value, where that is over 1.
    """

    def __init__(
        self,
        work: Callable[[], None],
        capture: Callable[[Callable[[], None]], Callable[[], None]],
        wait: Callable[[], None],
        outputs: Mapping[str, NDArray[Any]],
        choice: GraphChoice,
        *,
        warm_ups: int = 1,
        rewind: Callable[[], None] = lambda: None,
        relative: bool = True,
    ) -> None:
        self._work, self._record, self._wait, self._outputs, self._choice = work, capture, wait, outputs, choice
        self._warm_ups, self._rewind, self._relative = warm_ups, rewind, relative
        self._launch: Callable[[], None] | None = None
        self._runs = 0

    def run(self) -> None:
        """Do the work; the outputs are complete afterwards."""
        self.begin()
        self.end()

    def begin(self) -> None:
        """Put the work on the stream."""
        (self._launch or self._work)()

    def end(self) -> None:
        """Wait for it."""
        self._wait()
        if self._launch is None:
            self._runs += 1
            if self._runs == self._warm_ups and self._choice.graphs:
                self._capture()

    def _capture(self) -> None:
        wanted = {name: array.copy() for name, array in self._outputs.items()}
        try:
            launch = self._record(self._work)
            self._rewind()
            for array in self._outputs.values():
                if array.dtype.kind == "f":  # or what is there already would pass for what the graph gave
                    array[...] = np.nan
            launch()
            self._wait()
            different = [name for name, array in self._outputs.items() if not self._same(array, wanted[name])]
            if not different:
                self._launch = launch
                return
            why = f"captured {', '.join(different)} differ from those of the usual run"
        except (BackendError, RuntimeError) as error:  # PyTorch's errors are the latter
            why = str(error)
        self._choice.graphs = False
        warnings.warn(f"CUDA graphs are not used: {why}", RuntimeWarning, stacklevel=5)
        self._rewind()
        self._work()
        self._wait()

    def _same(self, found: NDArray[Any], wanted: NDArray[Any]) -> bool:
        largest = np.nanmax(np.abs(wanted), initial=1.0) if self._relative else 1.0
        return bool(np.allclose(found, wanted, rtol=0, atol=TOLERANCE * float(largest), equal_nan=True))
