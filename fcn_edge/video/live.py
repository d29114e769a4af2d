"""A live source: always the newest frame, found again whenever it is lost.

Whoever is slower than a camera would fall behind by all that waits, so one frame waits, and what nobody
took before the next one came counts as dropped. A source that ends, fails or says nothing for a while is
lost: its capturing process is ended and another one started, again and again with longer pauses. A new
process each time, because what a driver or a decoder broke on does not survive into it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path

import msgspec
import numpy as np

from fcn_edge.errors import SourceError
from fcn_edge.video.capture import wire
from fcn_edge.video.capture.process import GRACE, CaptureProcess
from fcn_edge.video.frames import Frame
from fcn_edge.video.options import STALL, WAIT
from fcn_edge.video.uri import Uri

TICKS = 90_000  # a second
STALL_OF_SEGMENTS = 20.0  # HLS brings several seconds at once, then nothing
# Seconds between attempts, so that a gap grows by half of itself, or by 10 s. They begin anew after a source that
# stayed for longer than the last one: what comes and goes at once must not cost a process each time.
FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 0.25, 1.5, 10.0
HEAD_START = 2.0  # seconds that a process has to start, and then to say itself what it waited for in vain
AT_ONCE = 0.05  # seconds that a lost source's process has to end: it failed, or it hangs
ATTENTION = 0.1  # seconds within which it is noticed that a silent source is wanted no more


@dataclass(frozen=True)
class Waiting:
    """The newest picture, still in the slot that its process put it into."""

    process: CaptureProcess
    slot: int
    image: np.ndarray
    captured: float
    sequence: int

    def take(self) -> np.ndarray:
        image = self.image.copy()
        self.process.free(self.slot)
        return image


class LiveSource:
    """What a camera or a stream shows now. `close` may be called by any thread, and ends an iteration.

    Opening waits for the first frame, unless the options ask for reconnecting: then it is looked for while iterating.
    """

    live = True
    still = False
    total: int | None = None
    time_base: Fraction | None = Fraction(1, TICKS)

    def __init__(self, uri: Uri) -> None:
        self.uri = uri.name
        self.files: list[Path] = []
        self.problems: list[str] = []
        self.notes: list[str] = []
        self.size: tuple[int, int] | None = None
        self.rate: Fraction | None = None
        self.pixel_aspect = Fraction(1)
        self.dropped = 0
        self.reconnects = 0
        self.lost_since: float | None = None
        self.trouble: str | None = None
        segmented = ".m3u8" in uri.target
        options = replace(
            uri.options,
            wait=uri.options.wait or WAIT,
            stall=uri.options.stall or (STALL_OF_SEGMENTS if segmented else STALL),
        )
        self._address = replace(uri, options=options)
        self._changed = threading.Condition()
        self._closed = threading.Event()
        self._process: CaptureProcess | None = None
        self._newest: Waiting | None = None
        self._last: float | None = None  # when the last frame was captured
        self._sequence = 0
        self._watched = False  # before somebody iterates nothing is dropped
        self._over = False
        self._thread = threading.Thread(target=self._supervise, name="capture", daemon=True)
        self._thread.start()
        try:
            self._await_start()
        except BaseException:
            self.close()
            raise

    def _await_start(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._over or self.trouble)
            if self._over and not self._newest:
                raise SourceError(self.problems[0] if self.problems else f"{self.uri}: gave no frame.")

    def __iter__(self) -> Iterator[Frame]:
        start: float | None = None
        last = Fraction(-1)
        with self._changed:
            self._watched = True
            self._sequence = 0 if self._newest is None else 1
        while (taken := self._take()) is not None:
            image, captured, sequence = taken
            start = captured if start is None else start
            last = max(Fraction(round((captured - start) * TICKS), TICKS), last + Fraction(1, TICKS))
            yield Frame(image, sequence, last, f"{self._address.kind}_{sequence:06d}", None, captured)

    def _take(self) -> tuple[np.ndarray, float, int] | None:
        """Image, time of capture and number of a frame that was not taken before; None where there will be none."""
        with self._changed:
            self._changed.wait_for(lambda: self._newest or self._over)
            waiting, self._newest = self._newest, None
        return (waiting.take(), waiting.captured, waiting.sequence) if waiting else None

    def _supervise(self) -> None:
        pause = FIRST_PAUSE
        try:
            while not self._closed.is_set():
                began = time.monotonic()
                reason = self._session()
                if reason is None or self._closed.is_set():
                    return
                left = self._lose(reason, began)
                if left <= 0:
                    return
                stayed = self._last is not None and self._last - began > pause
                pause = FIRST_PAUSE if stayed else min(pause * GROWTH, LONGEST_PAUSE)
                self._closed.wait(min(pause, left))
        except Exception as error:  # a defect here must not look like a camera that is silent
            self.problems.append(f"{self.uri}: capturing broke: {type(error).__name__}: {error}")
            raise
        finally:
            with self._changed:
                self._over = True
                self._changed.notify_all()

    def _session(self) -> str | None:
        """One capturing process from start to end; returns why the source was lost, or None where it was not."""
        process = CaptureProcess(self._address)
        with self._changed:
            self._process = process
        reason: str | None = ""
        try:
            reason = self._listen(process)
        finally:
            with self._changed:
                self._process = None
            wanted = reason is not None and not self._closed.is_set()
            became = process.end(AT_ONCE if wanted or self._last is None else GRACE)
        return f"{self.uri}: {became}" if reason == "" else reason

    def _listen(self, process: CaptureProcess) -> str | None:
        """As `_session`; empty where the process just ended."""
        options = self._address.options
        wait, stall = options.wait or WAIT, options.stall or STALL
        deadline, silence = time.monotonic() + wait + HEAD_START, f"gave no frame within {wait:g} s"
        while not self._closed.is_set():
            left = deadline - time.monotonic()
            if left <= 0:
                return f"{self.uri}: {silence}."
            try:
                messages = process.receive(min(left, ATTENTION))
            except (EOFError, msgspec.MsgspecError):
                return ""
            for message in messages:
                if isinstance(message, wire.Failed):
                    return message.message
                if isinstance(message, wire.Ended):
                    return None
                if isinstance(message, wire.Opened):
                    self.rate, self.pixel_aspect, self.notes = message.rate, message.pixel_aspect, message.notes
                else:
                    self._keep(process, message)
                    deadline, silence = time.monotonic() + stall, f"gave no frame for {stall:g} s"
        return None

    def _keep(self, process: CaptureProcess, shot: wire.Delivered) -> None:
        image = process.slots[shot.slot].view(shot.height, shot.width)
        with self._changed:
            if self.lost_since is not None:
                self.reconnects += self._last is not None
                self.lost_since = self.trouble = None
            unseen, self._newest = self._newest, None
            if unseen is not None:
                unseen.process.free(unseen.slot)
            if self._watched:
                self.dropped += shot.lost + (unseen is not None)
                self._sequence += shot.lost
            self._newest = Waiting(process, shot.slot, image, shot.captured, self._sequence)
            self._sequence += self._watched
            self.size, self._last = (shot.height, shot.width), shot.captured
            self._changed.notify_all()

    def _lose(self, reason: str, began: float) -> float:
        """Notes the loss; returns for how many seconds the source is still to be looked for."""
        reconnect = self._address.options.reconnect
        with self._changed:
            if self._last is None and reconnect is None:
                self.problems.append(reason)
                return 0
            if self.lost_since is None:
                self.lost_since = began if self._last is None else self._last
            self.trouble = reason
            away = time.monotonic() - self.lost_since
            left = float("inf") if reconnect is None else reconnect - away
            if left <= 0:
                self.problems.append(f"{reason} It was looked for over {away:.0f} s." if reconnect else reason)
            self._changed.notify_all()
            return left

    def __enter__(self) -> LiveSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        with self._changed:
            process = self._process
        if process is not None:
            process.hang_up()
        self._thread.join()
        with self._changed:
            self._over, self._newest = True, None
            self._changed.notify_all()
