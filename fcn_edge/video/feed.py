"""A source, what becomes of its frames, and what is known of that while it goes on.

Everything counted here may be read by any thread at any time, as the web page does; each part has one
thread that writes it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from fcn_edge.errors import FcnEdgeError
from fcn_edge.segmenter import Steady
from fcn_edge.video.frames import Source
from fcn_edge.video.painter import Painter
from fcn_edge.video.sinks import Sink
from fcn_edge.video.spread import Spread

FPS_OVER = 30  # frames
PAUSE = 2.0  # seconds without a frame after which the rate of the last ones says nothing


@dataclass(frozen=True)
class Limits:
    """What is taken of each source, and until when.

    frames:  end after so many.
    seconds: end after so many of the file's own time, of the clock for photos and live sources.
    max_fps: at most so many frames a second of the clock: a live source's others are dropped, a file waits.
    skip:    so many frames are left out after each one that is taken.
    """

    frames: int | None = None
    seconds: float | None = None
    max_fps: float | None = None
    skip: int = 0


@dataclass
class Delivery:
    """What a sink got. `lost`: what it was too slow for; `age`: seconds from a frame's capture until it was written."""

    sink: Sink
    written: int = 0
    lost: int = 0
    write: Spread = field(default_factory=Spread)
    age: Spread = field(default_factory=Spread)
    error: FcnEdgeError | None = None  # after it there is nothing more for this sink
    where: str = ""

    def __post_init__(self) -> None:
        self.where = self.sink.where  # which the sink forgets where it kept nothing


@dataclass
class Tally:
    """What became of a source, as it goes on."""

    frames: int = 0  # drawn and handed to the sinks
    seconds: float = 0.0  # from the start until the last one was
    first: float = 0.0  # until the first one was, with all that is done once
    dropped: int = 0  # frames that were read and not taken, beside those that the source counts
    left_out: int = 0  # by Limits.skip
    stages: dict[str, Spread] = field(default_factory=dict)  # seconds a frame; see `spreads`
    network_sizes: set[tuple[int, int]] = field(default_factory=set)
    deliveries: list[Delivery] = field(default_factory=list)
    source_error: FcnEdgeError | None = None  # of the source or the network
    recent: deque[float] = field(default_factory=lambda: deque(maxlen=FPS_OVER))  # time.monotonic() of the last frames

    @property
    def errors(self) -> list[FcnEdgeError]:
        """What went wrong, a line each."""
        errors = [self.source_error, *(delivery.error for delivery in self.deliveries)]
        return [error for error in errors if error is not None]

    @property
    def fps(self) -> float:
        """Frames a second after the first one."""
        if self.frames < 2:
            return self.frames / self.seconds if self.seconds else 0.0
        return (self.frames - 1) / max(self.seconds - self.first, 1e-9)

    @property
    def recent_fps(self) -> float:
        """Frames a second over the last ones; 0 where there are none."""
        recent = list(self.recent)
        if len(recent) < 2 or time.monotonic() - recent[-1] > PAUSE + (recent[-1] - recent[-2]):
            return 0.0
        return (len(recent) - 1) / max(recent[-1] - recent[0], 1e-9)

    @property
    def spreads(self) -> dict[str, Spread]:
        """Seconds that each stage takes, `write` over all sinks."""
        return {**self.stages, "write": Spread.of(delivery.write for delivery in self.deliveries)}

    @property
    def age(self) -> Spread:
        """Seconds from a frame's capture until a sink had written it, over all sinks."""
        return Spread.of(delivery.age for delivery in self.deliveries)

    @property
    def lost(self) -> int:
        """Results that a sink was too slow for."""
        return sum(delivery.lost for delivery in self.deliveries)


@dataclass
class Feed:
    """A source and where its frames go.

    steady: what remembers the source's scores from frame to frame; null: each frame for itself.
    """

    source: Source
    painter: Painter
    sinks: Sequence[Sink]
    tally: Tally = field(default_factory=Tally)
    steady: Steady | None = None

    @property
    def dropped(self) -> int:
        """Frames of a live source that the network did not take."""
        return self.source.dropped + self.tally.dropped
