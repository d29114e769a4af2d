"""Reading, inference and writing, each in its own thread, in order, with little in between.

The network takes most of the time, so the others must run beside it: a thread reads ahead, a thread
infers, and the caller's thread draws and writes (a window wants the main thread). What waits between
them is bounded by frames and by bytes. A live camera is not read ahead: it has its own thread, and
inference takes its newest frame the moment that it can use one.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from fcn_edge.errors import FcnEdgeError, SourceError
from fcn_edge.segmenter import Segmentation, Segmenter
from fcn_edge.video.frames import Frame, Source
from fcn_edge.video.painter import Painter
from fcn_edge.video.sinks import Result, Sink

WAITING_FRAMES = 3  # absorbs a key frame of x264, the slowest hiccup; 8 gained nothing
WAITING_BYTES = 64 * 2**20  # so that 20-megapixel photos wait alone
FPS_OVER = 30  # frames

T = TypeVar("T")


@dataclass
class Tally:
    """What a run did, as it goes on. `stages` are seconds, summed over frames."""

    frames: int = 0
    seconds: float = 0.0
    first: float = 0.0  # seconds until the first frame was done, with all that is done once
    stages: dict[str, float] = field(default_factory=dict)
    network_sizes: set[tuple[int, int]] = field(default_factory=set)
    error: FcnEdgeError | None = None  # what ended the run after some frames were done

    @property
    def fps(self) -> float:
        """Frames a second after the first one."""
        if self.frames < 2:
            return self.frames / self.seconds if self.seconds else 0.0
        return (self.frames - 1) / (self.seconds - self.first)

    @property
    def stage_means(self) -> dict[str, float]:
        """Seconds a frame."""
        return {name: total / self.frames for name, total in self.stages.items()} if self.frames else {}


class Channel(Generic[T]):
    """A bounded queue between two threads that either side may end."""

    def __init__(self, items: int, size: int) -> None:
        self._items: deque[tuple[T, int]] = deque()
        self._room, self._most = size, items
        self._changed = threading.Condition()
        self._closed = self._abandoned = False

    def put(self, item: T, size: int) -> bool:
        """Waits for room; false where the receiver is gone. An item larger than all room goes in alone."""

        def free() -> bool:
            full = len(self._items) >= self._most or size > self._room
            return self._abandoned or not self._items or not full

        with self._changed:
            self._changed.wait_for(free)
            if self._abandoned:
                return False
            self._items.append((item, size))
            self._room -= size
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """The sender has no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def abandon(self) -> None:
        """The receiver wants no more; what waits is dropped."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[T]:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._items or self._closed or self._abandoned)
                if not self._items:
                    return
                item, size = self._items.popleft()
                self._room += size
                self._changed.notify_all()
            yield item


@dataclass
class Limits:
    """When to end early: after so many frames, or seconds of the source's own time (of the clock for photos)."""

    frames: int | None = None
    seconds: float | None = None


class _Stage(threading.Thread):
    """A thread that hands its outputs to a channel and keeps its exception for whoever waits for them."""

    def __init__(self, name: str, outputs: Generator[tuple[T, int], None, None], channel: Channel[T]) -> None:
        super().__init__(name=name, daemon=True)
        self.outputs = outputs
        self.channel = channel
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            with contextlib.closing(self.outputs):  # here, not when it is collected: it may hold work in flight
                for item, size in self.outputs:
                    if not self.channel.put(item, size):
                        break
        except BaseException as error:
            self.error = error
        finally:
            self.channel.close()


def process(
    source: Source,
    segmenter: Segmenter,
    painter: Painter,
    sinks: Sequence[Sink],
    limits: Limits,
    stop: threading.Event,
    tally: Tally,
    progress: Callable[[Tally], None] = lambda tally: None,
) -> None:
    """Every frame of `source` through `segmenter` into every sink, until the source, a limit or `stop` ends it.

    `tally` is kept up to date. An error of the source or the network after the first frame is kept in
    `tally.error`, so that what was done stays; a sink's error, or one before the first frame, is raised.
    """
    pace = deque[float](maxlen=FPS_OVER)
    draws = any(sink.wants_picture for sink in sinks)
    start = time.perf_counter()
    reader: _Stage | None = None
    reading = _timed_frames(source, limits, stop)
    if not source.live:
        ahead: Channel[tuple[Frame, float]] = Channel(WAITING_FRAMES, WAITING_BYTES)
        reader = _Stage("read", ((item, item[0].image.nbytes) for item in reading), ahead)
        reading = iter(ahead)
    done: Channel[tuple[Frame, float, Segmentation]] = Channel(WAITING_FRAMES, WAITING_BYTES)
    worker = _Stage("infer", _segmented(segmenter, reading, source), done)
    stages = [stage for stage in (reader, worker) if stage]
    for stage in stages:
        stage.start()
    try:
        for frame, reading_took, segmentation in done:
            pace.append(time.perf_counter())
            result = _draw(painter, frame, segmentation, draws, _readout(pace, source, segmentation))
            result.seconds["read"] = reading_took
            before = time.perf_counter()
            for sink in sinks:
                sink.write(result)
            result.seconds["write"] = time.perf_counter() - before
            tally.frames += 1
            tally.network_sizes.add(segmenter.network_size(result.labels.shape))
            tally.seconds = time.perf_counter() - start
            tally.first = tally.first or tally.seconds
            for name, taken in result.seconds.items():
                tally.stages[name] = tally.stages.get(name, 0.0) + taken
            progress(tally)
    finally:
        stop.set()
        done.abandon()
        if reader is not None:
            reader.channel.abandon()
        for stage in stages:
            stage.join()
    _surface([stage.error for stage in stages if stage.error], tally)


def _surface(errors: list[BaseException], tally: Tally) -> None:
    for error in errors:
        if not isinstance(error, FcnEdgeError) or not tally.frames:
            raise error
        tally.error = tally.error or error


def _timed_frames(source: Source, limits: Limits, stop: threading.Event) -> Iterator[tuple[Frame, float]]:
    """The frames within the limits, each with the seconds that it took to come."""
    first: Frame | None = None
    clock = time.monotonic()
    frames = iter(source)
    for _ in range(limits.frames) if limits.frames is not None else iter(int, 1):
        before = time.perf_counter()
        frame = next(frames, None)
        if frame is None or stop.is_set():
            return
        first = first or frame
        elapsed = time.monotonic() - clock if source.still else float(frame.time - first.time)
        if limits.seconds is not None and elapsed >= limits.seconds and frame is not first:
            return
        yield frame, time.perf_counter() - before


def _segmented(
    segmenter: Segmenter, frames: Iterator[tuple[Frame, float]], source: Source
) -> Generator[tuple[tuple[Frame, float, Segmentation], int], None, None]:
    waiting: deque[tuple[Frame, float]] = deque()

    def images() -> Iterator:
        for item in frames:
            try:
                segmenter.network_size(item[0].image.shape[:2])
            except SourceError as error:  # one picture too large for `native` is no reason to lose the others
                if not source.still or source.total == 1:
                    raise
                source.problems.append(f"{item[0].name}: {error}")
                continue
            waiting.append(item)
            yield item[0].image

    with contextlib.closing(segmenter.stream(images())) as segmentations:
        for segmentation in segmentations:
            frame, took = waiting.popleft()
            yield (frame, took, segmentation), frame.image.nbytes


def _draw(painter: Painter, frame: Frame, segmentation: Segmentation, draws: bool, readout: str) -> Result:
    before = time.perf_counter()
    labels = painter.labels(segmentation.labels)
    shares = painter.shares(labels)
    picture = painter.draw(segmentation, labels, shares, readout) if draws else None
    seconds = {"read": 0.0, **segmentation.timings, "draw": time.perf_counter() - before}
    return Result(frame, labels, picture, shares, seconds)


def _readout(pace: deque[float], source: Source, segmentation: Segmentation) -> str:
    """The rate of the last frames; for photos, and before there is a rate, what this frame took."""
    if source.still or len(pace) < 2:
        return f"{1e3 * sum(segmentation.timings.values()):.0f} ms"
    return f"{(len(pace) - 1) / (pace[-1] - pace[0]):.1f} fps"


def no_frames(source: Source) -> SourceError:
    """The error for a source of which nothing could be read."""
    first = f" First: {source.problems[0]}" if source.problems else ""
    return SourceError(f"{source.uri}: no frame could be read.{first}")
