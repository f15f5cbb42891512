"""Captured work over a stand-in for a stream: what is recorded is kept, and done again when it is launched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from spm_rt.errors import BackendError
from spm_rt.gpu.capture import CapturedWork


class Steady:
    """Work whose results are always the same, if what it reads and changes is put back."""

    def __init__(self, **options: Any) -> None:
        self.scores, self.chosen, self.state = np.zeros(4, np.float32), np.zeros(1, np.int32), 0
        self.graphs, self.launches = True, 0
        self.spoil: Callable[[], object] = lambda: None
        self.record_error: Exception | None = None
        self.launch_error: Exception | None = None
        outputs = {"scores": self.scores, "chosen": self.chosen}
        self.captured = CapturedWork(self.work, self.record, lambda: None, outputs, self, rewind=self.rewind, **options)

    def work(self) -> None:
        self.scores[:], self.chosen[:] = (1, 2, 300, np.nan), 7 + self.state
        self.state += 1

    def rewind(self) -> None:
        self.state = 0

    def record(self, work: Callable[[], None]) -> Callable[[], None]:
        if self.record_error:
            raise self.record_error

        def launch() -> None:
            self.launches += 1
            if self.launch_error:
                raise self.launch_error
            work()
            self.spoil()

        return launch

    def run(self) -> list[float]:
        self.state = 0
        self.captured.run()
        return [*self.scores.tolist(), *self.chosen.tolist()]


WANTED = [1, 2, 300, pytest.approx(np.nan, nan_ok=True), 7]


@pytest.mark.parametrize(("warm_ups", "launches"), [(1, [1, 2, 3, 4]), (2, [0, 1, 2, 3])])
def test_work_is_captured_after_its_usual_runs(warm_ups: int, launches: list[int]) -> None:
    steady, found = Steady(warm_ups=warm_ups), []
    for _ in range(4):
        assert steady.run() == WANTED
        found.append(steady.launches)
    assert found == launches  # the first launch is the comparison
    assert steady.graphs


@pytest.mark.parametrize("when", ["record", "launch"])
@pytest.mark.parametrize("kind", [BackendError, RuntimeError])
def test_a_failed_capture_is_given_up_with_a_warning(when: str, kind: type[Exception]) -> None:
    steady = Steady()
    setattr(steady, f"{when}_error", kind("operation not permitted when stream is capturing"))
    with pytest.warns(RuntimeWarning, match="CUDA graphs are not used: operation not permitted"):
        assert steady.run() == WANTED
    assert not steady.graphs
    launches = steady.launches
    assert [steady.run() for _ in range(2)] == [WANTED, WANTED]
    assert steady.launches == launches


@pytest.mark.parametrize(
    ("spoil", "which"),
    [
        (lambda s: s.scores.__imul__(np.float32(1.01)), "scores"),
        (lambda s: s.scores.fill(np.nan), "scores"),
        (lambda s: s.scores.__setitem__(3, 0), "scores"),
        (lambda s: s.chosen.__iadd__(1), "chosen"),
        (lambda s: (s.scores.fill(0), s.chosen.fill(0)), "scores, chosen"),
    ],
    ids=["larger", "NaN", "no longer NaN", "another choice", "all"],
)
def test_a_capture_that_computes_something_else_is_given_up(spoil: Callable[[Steady], object], which: str) -> None:
    steady = Steady()
    steady.spoil = lambda: spoil(steady)
    with pytest.warns(RuntimeWarning, match=f"captured {which} differ from those of the usual run"):
        assert steady.run() == WANTED
    assert steady.run() == WANTED
    assert steady.launches == 1


@pytest.mark.parametrize("relative", [True, False])
def test_differences_count_relative_to_the_largest_value_or_as_they_are(relative: bool) -> None:
    steady = Steady(relative=relative)
    steady.spoil = lambda: steady.scores.__iadd__(np.float32(0.01))
    if relative:
        steady.run()
    else:
        with pytest.warns(RuntimeWarning, match="captured scores differ"):
            steady.run()
    assert steady.graphs == relative


def test_without_graphs_everything_is_launched_step_by_step() -> None:
    steady = Steady()
    steady.graphs = False
    assert [steady.run() for _ in range(4)] == [WANTED] * 4
    assert steady.launches == 0
