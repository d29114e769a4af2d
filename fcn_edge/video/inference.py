"""The one thread that the network runs in, and which frames go through it next.

Each source that has a frame gives one a round, so that none goes short, and frames of one size go through
together. Two rounds are in flight; but no result is held back for a frame that has not come yet.
"""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Protocol

from fcn_edge.errors import FcnEdgeError
from fcn_edge.segmenter import Batch, Segmentation, Segmenter, Steady
from fcn_edge.video.intake import Taken

NETWORK = ("to_device", "infer", "from_device")  # what a result waits for, once its frame is prepared


class Lane(Protocol):
    """A source's way through the network, as its thread sees it."""

    steady: Steady | None

    def wait(self, now: float) -> float: ...  # seconds until there is a frame that may be taken
    def take(self, now: float) -> Taken: ...
    @property
    def exhausted(self) -> bool: ...
    def refuse(self, taken: Taken, error: FcnEdgeError) -> None: ...  # the network cannot take it
    def deliver(self, taken: Taken, segmentation: Segmentation) -> None: ...  # waits for nobody
    def no_more(self) -> None: ...  # everything was delivered


class Inference(threading.Thread):
    """board: guards what the lanes have, and is notified when that changes."""

    def __init__(self, segmenter: Segmenter, lanes: Sequence[Lane], board: threading.Condition) -> None:
        super().__init__(name="infer", daemon=True)
        self.error: BaseException | None = None
        self.busy_since: float | None = None
        self._segmenter = segmenter
        self._lanes = list(lanes)
        self._board = board
        self._under_way: deque[tuple[Lane, Taken]] = deque()
        self._since = 0.0  # when the oldest of those began, as far as is known
        self._each = 0.0  # seconds that the network takes for one

    def run(self) -> None:
        try:
            with contextlib.closing(self._segmenter.stream_batches(self._batches())) as results:
                for segmentation in results:
                    lane, taken = self._under_way.popleft()
                    lane.deliver(taken, segmentation)
                    self._each = sum(segmentation.timings.get(stage, 0.0) for stage in NETWORK)
                    self._since = self.busy_since = time.monotonic()
        except BaseException as error:
            self.error = error
        finally:
            self.busy_since = None
            for lane in self._lanes:
                lane.no_more()

    def _batches(self) -> Iterator[Batch | None]:
        while (picked := self._pick()) is not None:
            fitting = [(lane, taken) for lane, taken in picked if self._fits(lane, taken)]
            self.busy_since = time.monotonic()
            if not self._under_way:
                self._since = self.busy_since
            self._under_way.extend(fitting)
            if fitting:
                yield [(taken.frame.image, lane.steady) for lane, taken in fitting]
            elif not picked:
                yield None

    def _pick(self) -> list[tuple[Lane, Taken]] | None:
        """A frame of each lane that has one; none where a result should be asked for first; None at the end."""
        with self._board:
            while True:
                self._end_lanes()
                if all(lane.exhausted for lane in self._lanes):
                    return None
                now = time.monotonic()
                waits = [lane.wait(now) for lane in self._lanes]
                picked = [(lane, lane.take(now)) for lane, wait in zip(self._lanes, waits, strict=True) if wait <= 0]
                if picked:
                    return sorted(picked, key=lambda pair: pair[1].frame.image.shape)
                patience = min(waits)
                if self._under_way:
                    result = self._since + self._each * len(self._under_way) - now
                    if result <= 0:
                        return []
                    patience = min(patience, result)
                else:
                    self.busy_since = None
                self._board.wait(None if math.isinf(patience) else patience)

    def _end_lanes(self) -> None:
        """Let go of those of which everything was delivered, while others go on."""
        flying = {id(lane) for lane, _ in self._under_way}
        for lane in [lane for lane in self._lanes if lane.exhausted and id(lane) not in flying]:
            self._lanes.remove(lane)
            lane.no_more()

    def _fits(self, lane: Lane, taken: Taken) -> bool:
        try:
            height, width = taken.frame.image.shape[:2]
            self._segmenter.network_size((height, width))
        except FcnEdgeError as error:
            lane.refuse(taken, error)
            return False
        return True
