"""The run: one loop over the frames, for one target and several, for the first time and after a stop."""

from __future__ import annotations

import contextlib
import json
import signal
from argparse import Namespace
from pathlib import Path

from ..errors import SourceError, SpmError
from ..files import shown, written_whole
from ..media.drawing import draw_targets
from ..media.sources import SourceFrame
from ..outputs import Outputs, Request, Tracked, open_outputs
from ..outputs.base import count_of
from ..outputs.sheet import encode_picture
from ..results import Box
from ..terminal import Progress, Stopped, say, stop_signals
from .first_frame import grid_picture
from .following import Follower, load_follower
from .frames import RunFrames, Stop
from .provenance import check_same, provenance
from .resuming import OtherFramesError, Record, read_record
from .summary import Tally, damage_text, kept_text, make_summary, output_notes, summary_text
from .targets import corners_hint
from .windows import require_windows, select_boxes, show

NAME = "spm-track"


def run(options: Namespace) -> int:
    """Do what the options say; returns the exit status."""
    instead = "write the first frame with a grid (--first-frame first.png), read the box from it, and give --box"
    if options.select:
        require_windows("--select", instead)
    if options.show:
        require_windows("--show", "write a video with --out")
    if options.first_frame is not None:
        return _write_first_frame(options)
    record = _record(options)
    stop = Stop()
    with stop_signals(stop), RunFrames(options, stop) as frames:
        rate = frames.source.frame_rate
        if options.resume and frames.source.live:
            raise SourceError(f"--resume: {shown(options.source)} is live; its first frame is gone")
        given = {"source": options.source, "bundle": str(options.bundle or "")}
        with open_outputs(options.requests, **given, rate=rate, targets=options.names) as outputs:
            follower = load_follower(options, options.names)
            return _Run(options, stop, frames, outputs, follower, record).status()


def _record(options: Namespace) -> Record | None:
    """What an earlier run wrote, if there is something to go on from; the options then follow it."""
    if not options.resume:
        return None
    record = read_record(options)
    if record is None:
        if not (options.box or options.select):
            raise SourceError(f"{shown(options.jsonl)}: there is nothing to go on from; give --box to begin")
        return None
    if options.recover:
        raise SourceError(
            f"{shown(options.jsonl)}: was begun with --recover, and what a tracker remembers for its way back is not "
            "in it; begin anew with another --jsonl FILE"
        )
    options.requests = [
        Request(kind, path, resume_after=record.last if kind == "jsonl" else None) for kind, path, _ in options.requests
    ]
    return record


class _Run:
    """State of one run; see :meth:`status`."""

    def __init__(
        self,
        options: Namespace,
        stop: Stop,
        frames: RunFrames,
        outputs: Outputs,
        follower: Follower,
        record: Record | None,
    ) -> None:
        self._options, self._stop, self._frames, self._outputs = options, stop, frames, outputs
        self._follower, self._record = follower, record
        self._tallies = {name: Tally() for name in options.names}
        self._recorded = iter(record.frames if record else ())
        self._count = 0

    def status(self) -> int:
        """Track, complete the outputs whatever happens, say what became of it; returns the exit status.

        Raises:
            SpmError: what ended the run; the message says what is kept. Where frames are not those of the record, every
                file is as it was before.
            Stopped: a signal did, likewise.
        """
        self._stop.deferred = True
        try:
            ended = self._loop()
        except OtherFramesError:
            self._outputs.discard()
            raise
        except SpmError as error:
            raise type(error)("; ".join(filter(None, (str(error), self._kept(str(error)))))) from error
        except BaseException as error:
            if kept := self._kept(str(error) or type(error).__name__):
                say(f"{NAME}: {kept}")
            raise
        stopped = f"stopped by {ended}" if self._stop.number is not None else None
        written = self._outputs.finish(stopped, patient=stopped is None)
        report = self._frames.source.report()
        self._say(ended)
        if self._stop.number is not None:
            kept = kept_text(written)
            raise Stopped(self._stop.number, f"after {count_of(self._count)}" + (f"; {kept}" if kept else ""))
        notes = [*report.notes, *output_notes(written)]
        if report.damaged and not self._frames.source.live:
            say(f"{NAME}: {shown(self._options.source)}: {'; '.join([damage_text(report), *notes])}")
            return 1
        for note in notes:
            say(f"{NAME}: {note}")
        return 0

    def _loop(self) -> str | None:
        """Track all frames; what ended the run before its end, if something did."""
        options, expected = self._options, self._frames.source.expected
        if expected is None or options.start.seconds is not None:
            expected = options.frames
        elif options.frames:
            expected = min(expected, options.frames)
        bar = Progress("tracking", expected, quiet=options.quiet or options.json)
        with contextlib.closing(bar):
            for frame in self._frames:
                targets = self._targets(frame)
                self._outputs.write(frame, targets)
                for name, tracked in targets.items():
                    self._tallies[name].add(tracked)
                self._count += 1
                bar.step()
                if options.show and not show(draw_targets(frame.picture, targets)):
                    return "the window"
                if self._stop.number is not None or self._count == options.frames:
                    break
        if self._stop.number is not None:
            return signal.Signals(self._stop.number).name
        if self._record:
            self._record.check_end(self._count)
        return None

    def _targets(self, frame: SourceFrame) -> dict[str, Tracked]:
        """All targets in the next frame: as they are given in the first, recorded by an earlier run, or tracked."""
        record = self._record
        if record and frame.index <= record.last:
            record.check(frame, next(self._recorded, None))
        if self._count == 0:
            about = provenance(self._options, frame.picture, self._follower)
            if record:
                check_same(about, record.about, record.path)
            started = self._follower.start(frame.picture, self._first_boxes(frame))
            self._outputs.begin(about)
            return record.frames[frame.index] if record else started
        if record and frame.index <= record.last:
            if frame.index == record.last:
                self._follower.restore(record.corners())
            return record.frames[frame.index]
        if record and (left := next(self._recorded, None)) is not None:
            record.check(frame, left)
        return self._follower.update(frame.picture)

    def _first_boxes(self, frame: SourceFrame) -> dict[str, Box]:
        options, size = self._options, frame.picture.shape[:2]
        if self._record:
            return self._record.boxes(self._record.first)
        if options.select:
            return dict(zip(options.names, select_boxes(frame.picture, options.names), strict=True))
        boxes = {name: box for name, (_, box) in zip(options.names, options.box, strict=True)}
        for box in boxes.values():
            if hint := corners_hint(box, (size[0], size[1])):
                say(f"{NAME}: {hint}")
        return boxes

    def _kept(self, why: str) -> str:
        """Complete the outputs after an error; what they have, unless the error said so itself."""
        said = bool(self._outputs.written)
        written = self._outputs.finish(why)
        return "" if said else kept_text(written)

    def _say(self, ended: str | None) -> None:
        options = self._options
        if options.quiet and not options.json:
            return
        report = self._frames.source.report()
        written = self._outputs.written
        summary = make_summary(options.source, self._count, self._follower, self._tallies, report, written, ended)
        if options.json:
            print(json.dumps(summary, indent=1, allow_nan=False))
        elif self._count:
            text = summary_text(summary)
            if self._outputs.on_standard_output:
                for line in text.splitlines():
                    say(line)
            else:
                print(text)


def _write_first_frame(options: Namespace) -> int:
    """The first frame with a grid, as a picture."""
    path, boxes = options.first_frame, dict(zip(options.names, (box for _, box in options.box), strict=False))
    with (
        open_outputs([Request("sheet", path)], source=options.source),
        stop_signals(stop := Stop()),
        RunFrames(options, stop) as frames,
    ):
        frame = next(iter(frames))
    encoded = encode_picture(grid_picture(frame.picture, boxes), path)
    try:
        with written_whole(Path(path)) as part:
            part.write_bytes(encoded)
    except OSError as error:
        raise SourceError(f"{shown(path)}: cannot be written ({error.strerror or error})") from error
    if not options.quiet:
        height, width = frame.picture.shape[:2]
        print(
            f"wrote {shown(path)}: frame {frame.index}, {width} x {height} pixels; read x, y of the target's upper "
            "left corner and its width and height from the grid, and give them as --box x,y,width,height"
        )
    return 0
