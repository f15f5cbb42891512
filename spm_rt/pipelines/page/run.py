"""A run: one source, one or two trackers on it, and the boxes that somebody gave. It lives on when no browser looks."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from ...errors import SettingsError, SpmError, in_words
from ...results import STATES, Box
from .downloads import Video
from .frames import Frames
from .lanes import Lane, Row, Trackers, checked_box

READY, LOADING, TRACKING, PAUSED, DONE, FAILED = "ready", "loading", "tracking", "paused", "done", "failed"
MOST_LANES = 2
_MOST_ROWS = 4000
"""Rows in one answer."""


class Run:
    """One source being tracked.

    Args:
        number: in its address.
        source: what the page was asked to open.
        name: of it, as the page shows it.
        frames: of the source; closed with the run.
        trackers: that can be chosen.
    """

    def __init__(self, number: int, source: str, name: str, frames: Frames, trackers: Trackers) -> None:
        self.number, self.source, self.name, self.frames = number, source, name, frames
        self.video = Video()
        self._trackers = trackers
        picture = frames.first().picture
        self.picture = picture
        self.size = picture.shape[1], picture.shape[0]
        self.given: dict[int, Box] = {}
        self.lanes = [Lane(trackers.first, trackers)]
        self.state, self.message = READY, ""
        self._changed = threading.Condition()
        self._version = 0
        self._log: list[tuple[int, int]] = []
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=f"spm-page-run-{number}", daemon=True)
        self._thread.start()

    def give(self, position: int, box: object) -> None:
        """A box at a position: where there was none, a correction; tracking goes on from there.

        Raises:
            BoxError: the box cannot be tracked on.
            SettingsError: there is no such position.
        """
        checked = checked_box(box, self.picture)
        self._check_position(position)
        with self._changed:
            self.given[position] = checked
            self._forget_from(position)
            self._go()

    def take_back(self, position: int) -> None:
        """Remove a box that was given."""
        with self._changed:
            if self.given.pop(position, None) is None:
                raise SettingsError(f"no box was given at frame {position}")
            self._forget_from(position)
            if self.given:
                self._go()
            else:
                for number, lane in enumerate(self.lanes):
                    self._note(number, lane.forget(0, None))
                self._set(READY)

    def choose(self, choices: Sequence[object]) -> None:
        """Which trackers; what those already there have done stays.

        Raises:
            SettingsError: not one or two, or none of those that there are.
        """
        if not 1 <= len(choices) <= MOST_LANES:
            raise SettingsError(f"one tracker, or {MOST_LANES} side by side")
        checked = [self._trackers.check(choice) for choice in choices]
        with self._changed:
            if checked == [lane.choice for lane in self.lanes]:
                return
            for number, lane in enumerate(self.lanes):
                if number >= len(checked) or lane.choice != checked[number]:
                    self._note(number, lane.forget(0, None))
            kept = [*self.lanes, *[None] * MOST_LANES]
            self.lanes = [
                lane if lane and lane.choice == choice else Lane(choice, self._trackers)
                for choice, lane in zip(checked, kept, strict=False)
            ]
            if self.given:
                self._go()
            self._touch()

    def pause(self, pause: bool) -> None:
        """Stop tracking for the moment, or go on."""
        with self._changed:
            if pause and self.state in (TRACKING, LOADING):
                self._set(PAUSED)
            elif not pause and self.given:
                self._go()

    def row(self, lane: int, position: int) -> Row | None:
        """What a lane has at a position."""
        return self.lanes[lane].rows.get(position) if lane < len(self.lanes) else None

    def since(self, mark: int, version: int, seconds: float) -> dict[str, Any]:
        """What is new for a browser that knows the first ``mark`` changes of rows; waits until there is something."""
        with self._changed:
            self._changed.wait_for(lambda: len(self._log) > mark or self._version != version, seconds)
            mark = mark if 0 <= mark <= len(self._log) else 0
            end = min(len(self._log), mark + _MOST_ROWS)
            rows = [self._told(lane, position) for lane, position in dict.fromkeys(self._log[mark:end])]
            return {**self._about(), "mark": end, "more": end < len(self._log), "rows": rows}

    def touch(self) -> None:
        """Tell browsers that something else has changed."""
        with self._changed:
            self._touch()

    def close(self) -> None:
        """Stop and let go of the source."""
        with self._changed:
            self._closed = True
            self._touch()
        self._thread.join(30)
        self.video.close()
        self.frames.close()

    def _about(self) -> dict[str, Any]:
        frames = self.frames
        return {
            "run": self.number,
            "version": self._version,
            "name": self.name,
            "state": self.state,
            "message": self.message or (frames.note if frames.ended else ""),
            "size": self.size,
            "rate": frames.rate,
            "live": frames.live,
            "end": frames.end,
            "ended": frames.ended,
            "given": [[position, *box] for position, box in sorted(self.given.items())],
            "video": self.video.state(),
            "lanes": [
                {
                    "bundle": lane.choice.bundle,
                    "backend": lane.choice.backend,
                    "description": lane.description,
                    "milliseconds": lane.pace(),
                    "found": self._trackers.bundles[lane.choice.bundle].settings.found_threshold,
                }
                for lane in self.lanes
            ],
        }

    def _told(self, lane: int, position: int) -> list[Any]:
        """Lane, position; and where there is something: box, score (None where the box was given), state."""
        row = self.row(lane, position)
        if row is None:
            return [lane, position]
        score = None if row.result is None else round(row.result.score, 4)
        state = "given" if row.result is None else row.result.state
        assert state in ("given", *STATES)
        return [lane, position, *(round(v, 2) for v in row.box), score, state]

    def _check_position(self, position: int) -> None:
        known = self.frames.end
        if position < 0 or (known is not None and (self.frames.ended or self.frames.live) and position >= known):
            raise SettingsError(f"there is no frame {position}")
        if position and self.frames.jpeg(position) is None:
            raise SettingsError(f"there is no frame {position}")

    def _forget_from(self, position: int) -> None:
        after = min((key for key in self.given if key > position), default=None)
        for number, lane in enumerate(self.lanes):
            self._note(number, lane.forget(position, after))

    def _note(self, lane: int, positions: Sequence[int]) -> None:
        self._log.extend((lane, position) for position in positions)
        self._touch()

    def _go(self) -> None:
        self._set(TRACKING)

    def _set(self, state: str, message: str = "") -> None:
        self.state, self.message = state, message
        self._touch()

    def _touch(self) -> None:
        self._version += 1
        self._changed.notify_all()

    def _next(self) -> tuple[int, Lane] | None:
        """The first position without a result, and the lane that has none there."""
        first = min(self.given)
        end = self.frames.end if self.frames.ended else None
        missing: list[tuple[int, int]] = []
        for number, lane in enumerate(self.lanes):
            position = lane.missing(first)
            if end is None or position < end:
                missing.append((position, number))
        if not missing:
            return None
        position, number = min(missing)
        return position, self.lanes[number]

    def _work(self) -> None:
        cursor = self.frames.cursor()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: self._closed or (self.state in (TRACKING, LOADING) and self.given))
                    if self._closed:
                        return
                    todo, given = self._next(), dict(self.given)
                    if todo is None:
                        self._set(DONE)
                        continue
                self._advance(*todo, given, cursor)
        finally:
            cursor.close()

    def _advance(self, position: int, lane: Lane, given: dict[int, Box], cursor: Any) -> None:
        """One frame of one lane."""
        try:
            if not lane.loaded:
                with self._changed:
                    self._set(LOADING)
                lane.load()
                with self._changed:
                    if self.state == LOADING:
                        self._set(TRACKING)
            if self.frames.live and not self.frames.wait(position, 0.25) and not self.frames.ended:
                return
            row = lane.step(position, given, cursor)
        except SpmError as error:
            self._fail(str(error))
            return
        except Exception as error:  # of a library: the page says it, and goes on
            self._fail(in_words(error))
            return
        with self._changed:
            if lane not in self.lanes or row is None:
                return
            if given == self.given:  # nobody has given another box meanwhile
                lane.rows[position] = row
                self._note(self.lanes.index(lane), [position])

    def _fail(self, message: str) -> None:
        with self._changed:
            self._set(FAILED, message)
