"""Reading, inference, drawing and writing at once, each in its own threads, with little in between.

The network takes most of the time, so everything else runs beside it, and nothing waits for what is not
worth waiting for. The caller's thread keeps the windows, which want the main thread, watches over the
others, and ends the run within two seconds of being told to, whatever they wait for: a thread that cannot
be ended is left behind and named.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from fcn_edge.errors import FcnEdgeError, SourceError
from fcn_edge.segmenter import Segmenter
from fcn_edge.video.feed import Delivery as Delivery
from fcn_edge.video.feed import Feed, Limits
from fcn_edge.video.feed import Tally as Tally
from fcn_edge.video.frames import Source
from fcn_edge.video.inference import Inference
from fcn_edge.video.lane import Lane, Progress
from fcn_edge.video.outlet import Outlet
from fcn_edge.video.sinks import StatsSink
from fcn_edge.video.watchdog import Watchdog, notify

TICK = 0.1  # seconds
PATIENCE = 20.0  # seconds that a sink may take over one result; a network drive that woke up took 9
# Seconds after a stop by which frames under way are drawn, sinks are closed, and the last line of figures is written.
DRAWN_BY, CLOSED_BY, ENDED_BY = 0.9, 1.4, 1.7

log = logging.getLogger(__name__)


def process(
    feeds: Sequence[Feed],
    segmenter: Segmenter,
    limits: Limits,
    stop: threading.Event,
    progress: Progress = lambda feed: None,
    tell: Callable[[str], None] = log.warning,
) -> list[str]:
    """The frames of every feed's source through `segmenter` into its sinks, until all sources ended or `stop` is set.

    To be called by the main thread where a sink is a window. Enters and leaves the sinks; the sources are the caller's.
    progress: called after every frame of a feed, by that feed's thread.
    tell:     called with a line for people when a source is lost or back, a sink fails, or something stands still.
    Returns the names of threads that could not be ended; while there are any, source and segmenter are in use.

    Tallies are kept up to date. What goes wrong after something was done is kept in them, so that what was done stays;
    where nothing came of the run, the first error is raised.
    """
    run = _Run(feeds, segmenter, limits, stop, progress, tell)
    try:
        run.go_on()
    except BaseException:
        stop.set()
        raise
    finally:
        stuck = run.end()
    run.surface()
    return stuck


class _Run:
    def __init__(
        self,
        feeds: Sequence[Feed],
        segmenter: Segmenter,
        limits: Limits,
        stop: threading.Event,
        progress: Progress,
        tell: Callable[[str], None],
    ) -> None:
        self.limits, self.stop, self.tell = limits, stop, tell
        self.wake = threading.Event()
        board = threading.Condition()
        self.lanes = [Lane(feed, segmenter, limits, board, self.wake, progress) for feed in feeds]
        self.outlets = [outlet for lane in self.lanes for outlet in lane.outlets]
        self.inference = Inference(segmenter, self.lanes, board)
        self.watchdog = Watchdog(tell)
        self.started = time.monotonic()
        self.stopped: float | None = None
        self.lost: dict[int, float] = {}  # number of the lane to since when
        self.told: set[int] = set()  # ids of errors
        self.finished: set[int] = set()  # ids of lanes whose source is closed
        self.closing: list[threading.Thread] = []

    def go_on(self) -> None:
        notify("READY=1")
        for lane in self.lanes:
            lane.start()
        self.inference.start()
        self._wait(lambda: all(lane.drawn for lane in self.lanes), DRAWN_BY)

    def end(self) -> list[str]:
        """Ends what has not ended by itself; the names of what cannot be."""
        notify("STOPPING=1")
        for lane in self.lanes:
            self._finish(lane)
        self._wait(lambda: all(lane.drawn for lane in self.lanes), DRAWN_BY)
        for lane in self.lanes:
            lane.no_more()  # where the network does not come back
        last = [outlet for outlet in self.outlets if isinstance(outlet.sink, StatsSink)]
        self._close([outlet for outlet in self.outlets if outlet not in last], CLOSED_BY)
        self._close(last, ENDED_BY)
        return self._stuck()

    def _close(self, outlets: list[Outlet], by: float) -> None:
        for outlet in outlets:
            outlet.close()
        self._wait(lambda: all(outlet.ended or outlet.failed for outlet in outlets), by)
        for outlet in outlets:
            if not outlet.ended and not outlet.failed:
                outlet.give_up("did not end in time; what it wrote may lack its end.")

    def _stuck(self) -> list[str]:
        threads = [self.inference, *(lane.intake for lane in self.lanes), *self.closing]
        until = time.monotonic() + PATIENCE if self.stopped is None else self.stopped + ENDED_BY
        for thread in threads:
            thread.join(max(TICK, until - time.monotonic()))
        return [
            *dict.fromkeys(thread.name for thread in threads if thread.is_alive()),
            *(f"write {outlet.sink.where}" for outlet in self.outlets if not outlet.ended),
        ]

    def surface(self) -> None:
        """Raise what has to be raised, and keep the rest in the tallies."""
        errors = [self.inference.error]
        for lane in self.lanes:
            errors += [lane.error, *(outlet.defect for outlet in lane.outlets)]
            for error in (lane.intake.error, self.inference.error):
                if isinstance(error, FcnEdgeError):
                    lane.feed.tally.source_error = lane.feed.tally.source_error or error
                errors.append(error)
        for defect in errors:
            if defect is not None and not isinstance(defect, FcnEdgeError):
                raise defect
        tallies = [lane.feed.tally for lane in self.lanes]
        told = [error for tally in tallies for error in tally.errors]
        sinks = [delivery for tally in tallies for delivery in tally.deliveries]
        nothing = not any(delivery.written for delivery in sinks) if sinks else not any(t.frames for t in tallies)
        if told and nothing:
            raise told[0]

    def _wait(self, done: Callable[[], bool], by: float) -> None:
        """Until `done`; once the run is told to stop, until `by` seconds after that."""
        while not done():
            now = time.monotonic()
            if self.stop.is_set() and self.stopped is None:
                self._halt()
            if self.stopped is not None and now - self.stopped > by:
                return
            self._look(now)
            for outlet in self.outlets:
                if outlet.on_main_thread:
                    outlet.step()
            if self.wake.wait(TICK):
                self.wake.clear()

    def _halt(self) -> None:
        self.stopped = time.monotonic()
        for lane in self.lanes:
            self._finish(lane)

    def _finish(self, lane: Lane) -> None:
        """Take no more of it. To close a live source is what ends its waiting for a frame."""
        lane.intake.finish()
        if lane.feed.source.live and lane.intake.is_alive() and id(lane) not in self.finished:
            self.finished.add(id(lane))
            thread = threading.Thread(target=lane.feed.source.close, name="close", daemon=True)
            thread.start()
            self.closing.append(thread)

    def _look(self, now: float) -> None:
        """What a watchman sees on his round."""
        for number, lane in enumerate(self.lanes):
            self._look_for_the_end(lane, now)
            self._look_for_loss(number, lane.feed.source, now)
        for outlet in self.outlets:
            if outlet.busy_since is not None and now - outlet.moved > PATIENCE and not outlet.failed:
                outlet.give_up(f"did not answer for {PATIENCE:.0f} s.")
            error = outlet.delivery.error
            if error is not None and id(error) not in self.told and len(self.outlets) > 1:
                self.told.add(id(error))
                self.tell(f"{error} The other outputs go on.")
        self.watchdog.look(self._stages(), now)

    def _look_for_the_end(self, lane: Lane, now: float) -> None:
        source, seconds = lane.feed.source, self.limits.seconds
        by_the_clock = source.live or (source.still and lane.feed.tally.frames)
        if by_the_clock and seconds is not None and now - self.started >= seconds and not lane.intake.over:
            self._finish(lane)

    def _look_for_loss(self, number: int, source: Source, now: float) -> None:
        since = source.lost_since
        before = self.lost.get(number)
        if since is not None and before is None:
            self.lost[number] = since
            self.tell(f"{source.trouble or f'{source.uri}: is lost.'} Looking for it again.")
        elif since is None and before is not None:
            del self.lost[number]
            self.tell(f"{source.uri}: is back after {now - before:.1f} s.")

    def _stages(self) -> Iterator[tuple[str, float | None]]:
        yield "the network", self.inference.busy_since
        for lane in self.lanes:
            uri = lane.feed.source.uri
            if not lane.feed.source.live:
                yield f"reading {uri}", lane.intake.busy_since
            yield f"drawing {uri}", lane.busy_since
            for outlet in lane.outlets:
                yield f"writing {outlet.sink.where}", outlet.busy_since


def no_frames(source: Source) -> SourceError:
    """The error for a source of which nothing could be read."""
    first = f" First: {source.problems[0]}" if source.problems else ""
    return SourceError(f"{source.uri}: no frame could be read.{first}")
