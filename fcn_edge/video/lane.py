"""One source's way through a run: its frames, what is drawn of them, and its sinks.

Frames wait before the network and before each sink, never between: a lane takes no further frame while
some are under way, so that a slow sink of one source keeps no other source waiting.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from dataclasses import replace

from fcn_edge.errors import FcnEdgeError
from fcn_edge.segmenter import Segmentation, Segmenter
from fcn_edge.video.channel import Channel
from fcn_edge.video.feed import Delivery, Feed, Limits
from fcn_edge.video.intake import Intake, Taken
from fcn_edge.video.outlet import Outlet
from fcn_edge.video.sinks import Result, StatsSink
from fcn_edge.video.spread import Spread

UNDER_WAY = 4  # two in the network, one that is drawn, one between
UNDER_WAY_LIVE = 3  # one that waits grows old
UNDER_WAY_BYTES = 192 * 2**20  # three 20-megapixel photos
NOTICE_EVERY = 1.0  # seconds
LOOK_EVERY = 0.25  # seconds, whether a live source is lost

Progress = Callable[[Feed], None]


class Lane:
    """A feed, its threads and what waits between them."""

    def __init__(
        self,
        feed: Feed,
        segmenter: Segmenter,
        limits: Limits,
        board: threading.Condition,
        wake: threading.Event,
        progress: Progress,
    ) -> None:
        source, tally = feed.source, feed.tally
        self.feed = feed
        self.steady = feed.steady
        self.busy_since: float | None = None
        self.error: BaseException | None = None
        self.drawn = False  # everything was handed to the sinks
        self._segmenter = segmenter
        self._board = board
        self._wake = wake
        self._progress = progress
        self._start = time.perf_counter()
        self._under_way = self._under_way_bytes = 0
        self._last: Result | None = None
        self._noticed = 0.0
        tally.deliveries += [Delivery(sink) for sink in feed.sinks]
        self.outlets = [Outlet(delivery, source.live, source.still, wake) for delivery in tally.deliveries]
        watched = bool(feed.sinks) and all(sink.live for sink in feed.sinks)
        self.intake = Intake(source, tally, limits, board, paced=watched and not source.live and not source.still)
        self._results: Channel[tuple[Taken, Segmentation]] = Channel(UNDER_WAY + 1, 2**62)
        self._drawing = threading.Thread(target=self._run, name="draw", daemon=True)

    def start(self) -> None:
        for thread in (self.intake, self._drawing, *self.outlets):
            thread.start()

    # What the network's thread asks, with the board in its hands.

    def wait(self, now: float) -> float:
        most = UNDER_WAY_LIVE if self.feed.source.live else UNDER_WAY
        free = self._under_way < most and self._under_way_bytes < UNDER_WAY_BYTES
        return self.intake.wait(now) if free else math.inf

    def take(self, now: float) -> Taken:
        taken = self.intake.take(now)
        self._count(taken, 1)
        return taken

    @property
    def exhausted(self) -> bool:
        return self.intake.exhausted

    # What it does without.

    def refuse(self, taken: Taken, error: FcnEdgeError) -> None:
        """One picture too large for `native` is no reason to lose the others; a video's frames are all alike."""
        source = self.feed.source
        if source.still and source.total != 1:
            source.problems.append(f"{taken.frame.name}: {error}")
        else:
            self.feed.tally.source_error = error
            self.intake.finish()
        with self._board:
            self._count(taken, -1)

    def deliver(self, taken: Taken, segmentation: Segmentation) -> None:
        self._results.put((taken, segmentation), 0)

    def no_more(self) -> None:
        self._results.close()

    def _count(self, taken: Taken, by: int) -> None:
        self._under_way += by
        self._under_way_bytes += by * taken.frame.image.nbytes

    # What is drawn, in a thread of its own.

    def _run(self) -> None:
        look_every = LOOK_EVERY if self.feed.source.live else None
        try:
            while not self._results.ended:
                item = self._results.take(look_every)
                self.busy_since = time.monotonic()
                if item is not None:
                    self._draw(*item)
                elif self._last is not None:
                    self._say_lost(self._last)
                self.busy_since = None
        except BaseException as error:
            self.error = error
            self.intake.finish()
        finally:
            self.busy_since = None
            self._results.abandon()
            for outlet in self.outlets:
                if not isinstance(outlet.sink, StatsSink):  # its last line tells how the others ended
                    outlet.close()
            self.drawn = True
            self._wake.set()

    def _draw(self, taken: Taken, segmentation: Segmentation) -> None:
        frame, tally = taken.frame, self.feed.tally
        tally.recent.append(time.monotonic())
        outlets = [outlet for outlet in self.outlets if not outlet.failed]
        result = self._result(taken, segmentation, any(outlet.sink.wants_picture for outlet in outlets))
        for outlet in outlets:
            outlet.put(result)
        self._last = result if self.feed.source.live else None
        tally.frames += 1
        tally.network_sizes.add(self._segmenter.network_size((frame.image.shape[0], frame.image.shape[1])))
        tally.seconds = time.perf_counter() - self._start
        tally.first = tally.first or tally.seconds
        for name, seconds in result.seconds.items():
            tally.stages.setdefault(name, Spread()).add(seconds)
        with self._board:
            self._count(taken, -1)
            self._board.notify_all()
        if self.outlets and not outlets:
            self.intake.finish()
        self._progress(self.feed)

    def _result(self, taken: Taken, segmentation: Segmentation, wanted: bool) -> Result:
        before = time.perf_counter()
        painter = self.feed.painter
        labels = painter.labels(segmentation.labels)
        shares = painter.shares(labels)
        picture = painter.draw(segmentation, labels, shares, self._readout(segmentation)) if wanted else None
        seconds = {"read": taken.reading, **segmentation.timings, "draw": time.perf_counter() - before}
        return Result(taken.frame, labels, picture, shares, seconds)

    def _readout(self, segmentation: Segmentation) -> str:
        """The rate of the last frames; for photos, and before there is a rate, what this frame took."""
        recent = self.feed.tally.recent
        if self.feed.source.still or len(recent) < 2 or recent[-1] <= recent[0]:
            return f"{1e3 * sum(segmentation.timings.values()):.0f} ms"
        return f"{(len(recent) - 1) / (recent[-1] - recent[0]):.1f} fps"

    def _say_lost(self, last: Result) -> None:
        """What a lost source showed last goes on to those who watch, and says that it is old."""
        lost_since, now = self.feed.source.lost_since, time.monotonic()
        if lost_since is None or last.picture is None or now - self._noticed < NOTICE_EVERY:
            return
        self._noticed = now
        picture = self.feed.painter.notice(last.picture, f"no signal for {now - lost_since:.0f} s")
        for outlet in self.outlets:
            if outlet.sink.live and outlet.sink.wants_picture and not outlet.failed:
                outlet.put(replace(last, picture=picture), counts=False)
