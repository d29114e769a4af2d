"""A source's frames, waiting to be taken by the network.

A file is read ahead a little and then waits: it never loses a frame. A live source is read as fast as it
gives, and of what came since the network last asked only the newest frame is kept, so that no frame is
older than it must be.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from dataclasses import dataclass

from fcn_edge.video.feed import Limits, Tally
from fcn_edge.video.frames import Frame, Source

AHEAD = 3  # frames; 8 gained nothing
AHEAD_BYTES = 64 * 2**20  # so that 20-megapixel photos wait alone
LATE = 0.5  # seconds by which a file that plays at its own rate may fall behind and still catch up


@dataclass(frozen=True)
class Taken:
    """A frame, and the seconds that it took to come."""

    frame: Frame
    reading: float


class Intake(threading.Thread):
    """Reads a source in a thread of its own.

    board: guards everything that the network's thread sees, and is notified of every change.
    paced: a file plays at its own rate.
    """

    def __init__(self, source: Source, tally: Tally, limits: Limits, board: threading.Condition, paced: bool) -> None:
        super().__init__(name="read", daemon=True)
        self.source = source
        self.error: BaseException | None = None
        self.busy_since: float | None = None
        self.over = False  # nothing more will be read
        self._tally = tally
        self._limits = limits
        self._board = board
        self._pace = Pace(limits.max_fps, paced)
        self._queue: deque[Taken] = deque()
        self._taken = 0

    def run(self) -> None:
        try:
            self._read()
        except BaseException as error:
            self.error = error
        finally:
            self.busy_since = None
            with self._board:
                self.over = True
                self._board.notify_all()

    def _read(self) -> None:
        frames = iter(self.source)
        first: Frame | None = None
        wanted = 0
        while not self.over:
            self.busy_since = before = time.monotonic()
            frame = next(frames, None)
            self.busy_since = None
            if frame is None:
                return
            first = first or frame
            if self._is_after_the_end(frame, first):
                return
            if frame.sequence < wanted:
                self._tally.left_out += 1
                continue
            wanted = frame.sequence + 1 + self._limits.skip
            self._put(Taken(frame, time.monotonic() - before))

    def _is_after_the_end(self, frame: Frame, first: Frame) -> bool:
        by_the_clock = self.source.live or self.source.still  # the pipeline ends those
        seconds = None if by_the_clock else self._limits.seconds
        return seconds is not None and float(frame.time - first.time) >= seconds and frame is not first

    def _put(self, taken: Taken) -> None:
        with self._board:
            if self.source.live:
                self._tally.dropped += len(self._queue)
                self._queue.clear()
            else:
                self._board.wait_for(lambda: self.over or self._has_room(taken.frame.image.nbytes))
            if not self.over:
                self._queue.append(taken)
                self._board.notify_all()

    def _has_room(self, size: int) -> bool:
        held = sum(taken.frame.image.nbytes for taken in self._queue)
        return not self._queue or (len(self._queue) < AHEAD and held + size <= AHEAD_BYTES)

    def wait(self, now: float) -> float:
        """Seconds until there is a frame to be taken, as far as is known. Needs the board."""
        return self._pace.wait(self._queue[0].frame, now) if self._queue else math.inf

    def take(self, now: float) -> Taken:
        """The next frame. Needs the board, and that there is one."""
        taken = self._queue.popleft()
        self._pace.took(taken.frame, now)
        self._taken += 1
        if self._taken == self._limits.frames:
            self._end()
        self._board.notify_all()
        return taken

    @property
    def exhausted(self) -> bool:
        """Nothing is left to be taken, and nothing will be. Needs the board."""
        return self.over and not self._queue

    def finish(self) -> None:
        """Take no more; what was read ahead is left."""
        with self._board:
            self._end()
            self._board.notify_all()

    def _end(self) -> None:
        self.over = True
        self._queue.clear()


class Pace:
    """When a frame may be taken: at most `max_fps` a second, and a file that plays `own_time` not before its time."""

    def __init__(self, max_fps: float | None, own_time: bool) -> None:
        self._interval = 1 / max_fps if max_fps else 0.0
        self._next = -math.inf
        self._own_time = own_time
        self._start: float | None = None  # when the source's time was 0

    def wait(self, frame: Frame, now: float) -> float:
        """Seconds until `frame` may be taken."""
        own = self._start + float(frame.time) if self._start is not None else -math.inf
        return max(0.0, self._next - now, own - now)

    def took(self, frame: Frame, now: float) -> None:
        late = now - self._next
        self._next = (self._next if late < self._interval else now) + self._interval  # a little late is made up for
        if self._own_time:
            start = now - float(frame.time)
            if self._start is None or start - self._start > LATE:
                self._start = start
