"""All outputs of a run as one object."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from ..errors import SourceError
from ..files import shown
from ..media.drawing import Picture, draw_targets
from ..media.protocol import SourceFrame
from ..terminal import stop_signals
from .base import Output, Request, Targets, Written, count_of, label, naming, reason
from .coco import CocoOutput
from .destinations import check_destinations, paths_of
from .sheet import SheetOutput
from .tables import TABLES, TableOutput
from .video import VideoOutput

DEFAULT_RATE = 25.0
"""Frames per second of a video whose source does not say."""


class Outputs:
    """Outputs of one run; a context manager, made by :func:`open_outputs`.

    Leaving the block finishes the outputs, whatever the reason: what was done until then is complete, and
    ``written`` says what that is. Signals that end a program (Ctrl-C, SIGTERM) wait while a frame is being written
    and while the outputs are being finished.

    Attributes:
        written: what became of each output, once they are finished.
    """

    def __init__(self, outputs: Sequence[Output], paths: Sequence[Sequence[str]]) -> None:
        self.written: list[Written] = []
        self._outputs, self._paths = list(outputs), paths
        self._problems: list[str] = []
        self._finished = False

    @property
    def on_standard_output(self) -> bool:
        """Whether results go to standard output, where nothing else should be printed then."""
        return any("-" in paths for paths in self._paths)

    def __enter__(self) -> Outputs:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish(None if error is None else str(error) or type(error).__name__)

    def begin(self, about: Mapping[str, Any]) -> None:
        """What makes the results, as JSON types: stands in the first of JSON lines as ``run``."""
        for output in self._outputs:
            if isinstance(output, TableOutput):
                output.begin(about)

    def write(self, frame: SourceFrame, targets: Targets) -> None:
        """One more frame, with its targets in order.

        Raises:
            SourceError: an output cannot be written to (disk full, ...). All are finished then, and the message says
                what is kept.
        """
        pictures: list[Picture] = []

        def drawn() -> Picture:
            if not pictures:
                pictures.append(draw_targets(frame.picture, targets))
            return pictures[0]

        with _undisturbed():
            for output in self._outputs:
                self._attempt(output, lambda output=output: output.write(frame, targets, drawn))
            if self._problems:
                self.finish()

    def finish(self, why: str | None = None, *, patient: bool = True) -> list[Written]:
        """Complete all outputs and check them: videos are opened again and read at their end.

        Args:
            why: what ended the run early, if something did. Nothing is raised then; what is wrong with an output is its
                note.
            patient: the third signal ends this at once; without patience, since there was one before, the first does.

        Raises:
            SourceError: an output is not complete; all others are. The message says what is kept.
        """
        if not self._finished:
            self._finished = True
            with _undisturbed(3 if patient else 1), contextlib.ExitStack() as closed:
                for output in self._outputs:
                    closed.callback(_close, output)
                for output in self._outputs:
                    self._attempt(output, output.finish)
                    _close(output)
            self.written = [
                Written(path, output.frames, "" if k else output.note)
                for paths, output in zip(self._paths, self._outputs, strict=True)
                for k, path in enumerate(paths)
            ]
            if self._problems and why is None:
                kept = [f"{label(w.path)} ({count_of(w.frames)})" for w in self.written if w.frames]
                raise SourceError(f"{'; '.join(self._problems)}; kept: {', '.join(kept) or 'nothing'}")
        return self.written

    def discard(self) -> None:
        """End without writing; what was there before under the names of outputs stays."""
        self._finished = True
        for output in self._outputs:
            _close(output)

    def _attempt(self, output: Output, action: Any) -> None:
        """Do something with an output; what goes wrong is remembered."""
        try:
            action()
        except (OSError, SourceError) as error:
            text = str(error) if isinstance(error, SourceError) else reason(error)
            text = text.removeprefix(f"{output.label}: ")
            problem = f"{output.label}: {text}"
            if problem not in self._problems:
                self._problems.append(problem)
            output.note = text if not output.note else f"{output.note}; {text}"


def open_outputs(
    requests: Sequence[Request],
    *,
    source: str = "",
    bundle: str = "",
    rate: float | None = None,
    targets: Sequence[str] = ("target",),
) -> Outputs:
    """Make everything ready to be written to, so that what cannot be written is known before the first frame.

    Args:
        requests: what is asked for.
        source: what is tracked on, as :func:`spm_rt.media.sources.open_source` takes it: no output replaces it, or one
            of its pictures.
        bundle: folder or file that the tracker is loaded from: no output replaces anything of it.
        rate: frames per second where frames have no time; 25 by default.
        targets: names of all targets.

    Raises:
        SourceError: an output is unknown, cannot be written, is the source, of the bundle, or another output.
    """
    rate = rate if rate and 0 < rate < 1e6 else DEFAULT_RATE
    requests = [request._replace(path=os.fspath(request.path)) for request in requests]
    check_destinations(requests, source, bundle, targets)
    outputs: list[Output] = []
    try:
        for request in requests:
            with naming(request.path):
                outputs.append(_make(request, source, rate, targets))
    except BaseException:
        for output in outputs:
            output.close()
        raise
    return Outputs(outputs, [paths_of(request, targets) for request in requests])


def _make(request: Request, source: str, rate: float, targets: Sequence[str]) -> Output:
    if request.kind in TABLES:
        return TableOutput(request, targets)
    if request.kind == "video":
        return VideoOutput(request.path, rate)
    if request.kind == "sheet":
        return SheetOutput(request.path)
    return CocoOutput(request.path, Path(shown(source)).name or "video", targets)


def _close(output: Output) -> None:
    with contextlib.suppress(OSError):
        output.close()


@contextlib.contextmanager
def _undisturbed(most: int = 3) -> Iterator[None]:
    """Signals that end a program come after the block; the third one (or as many as ``most`` says) comes at once."""
    waiting: list[int] = []

    def wait(number: int, frame: FrameType | None) -> None:
        waiting.append(number)
        if len(waiting) >= most:
            raise KeyboardInterrupt

    try:
        with stop_signals(wait):
            yield
    finally:
        if waiting:
            signal.raise_signal(waiting[0])
