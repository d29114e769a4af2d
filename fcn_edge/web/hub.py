"""Where the pipeline's threads leave results and the server's thread finds them.

A result is only kept and a bell rung; it is encoded when somebody asks, once for all who ask, in the server's own time.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from fcn_edge.segmenter import Segmenter
from fcn_edge.video.feed import Tally
from fcn_edge.video.frames import Source
from fcn_edge.video.painter import Painter
from fcn_edge.video.sinks import Result
from fcn_edge.web import encoding
from fcn_edge.web.pace import Bell, Share, Turns

ENCODING = 0.05  # of all cores, so that a full machine loses a twentieth of its rate to the page
PICTURES_A_SECOND = 120  # handed out over all clients: each costs about half a millisecond of Python

T = TypeVar("T")


class Copies(Generic[T]):
    """The newest result in one encoding, made once for all who ask for it."""

    def __init__(self, view: View, encode: Callable[[Result], T]) -> None:
        self._view, self._encode = view, encode
        self._number, self._copy = 0, None
        self._one_at_a_time = asyncio.Lock()

    async def after(self, number: int) -> tuple[int, T]:
        """The result with a number above this one; there must be one already."""
        budget = self._view.hub.encoding
        async with self._one_at_a_time:
            newer = self._number < self._view.number
            if self._copy is None or (newer and (budget.free or self._number <= number)):
                await budget.wait()
                self._number, self._copy = await asyncio.get_running_loop().run_in_executor(
                    self._view.hub.encoder, self._encode_newest
                )
            return self._number, self._copy

    def _encode_newest(self) -> tuple[int, T]:
        number, result = self._view.newest
        start = time.perf_counter()
        try:
            return number, self._encode(result)
        finally:
            self._view.hub.encoding.spent(time.perf_counter() - start)


class View:
    """One source as the page shows it. `number` counts what was put; a picture shown twice counts twice."""

    def __init__(self, hub: Hub, id: int, source: Source, painter: Painter, tally: Tally) -> None:
        self.hub, self.id, self.source, self.painter, self.tally = hub, id, source, painter, tally
        self.put_at: float | None = None  # time.monotonic() of the newest result
        self.gap = 0.0  # seconds between it and the one before
        self.ended = False
        self._newest: tuple[int, Result] | None = None
        self.shown: Copies[encoding.Shown] = Copies(self, encoding.shown)
        self.drawn: Copies[bytes] = Copies(self, lambda result: encoding.drawn(result, painter, self.lost_for))

    def put(self, result: Result) -> None:
        """Called by the pipeline."""
        now = time.monotonic()
        self.gap = 0.0 if self.put_at is None else now - self.put_at
        self._newest, self.put_at = (self.number + 1, result), now
        self.hub.bell.ring()

    def end(self) -> None:
        """No more will be put."""
        self.ended = True
        self.hub.bell.ring()

    def renew(self) -> None:
        """Count the last picture of a lost source as a new one: how long it has been lost is drawn in it."""
        if self._newest is not None and self.lost_for is not None:
            self._newest = (self._newest[0] + 1, self._newest[1])

    @property
    def number(self) -> int:
        return self._newest[0] if self._newest else 0

    @property
    def newest(self) -> tuple[int, Result]:
        assert self._newest is not None
        return self._newest

    @property
    def lost_for(self) -> float | None:
        """Seconds since the last frame of a source that is lost; None of one that is not."""
        since = self.source.lost_since
        return None if since is None else time.monotonic() - since


class Hub:
    """All that there is to look at: the model, and a view a source. A context manager; leaving it ends every wait."""

    def __init__(self, segmenter: Segmenter) -> None:
        self.segmenter = segmenter
        self.spec = segmenter.spec
        self.began = time.time()
        self.opened = time.monotonic()
        self.views: dict[int, View] = {}
        self.watching = 0  # requests for pictures under way
        self.ended = False
        self.told: tuple[float, bytes] = (0.0, b"")  # time.monotonic() and status.changing_json
        self.bell = Bell()
        self.encoding = Share(min(1.0, ENCODING * (os.cpu_count() or 1)))
        self.turns = Turns(PICTURES_A_SECOND)
        self.encoder = ThreadPoolExecutor(1, "web-encode")

    def add(self, source: Source, painter: Painter, tally: Tally) -> View:
        view = View(self, len(self.views) + 1, source, painter, tally)
        self.views[view.id] = view
        return view

    def end(self) -> None:
        """There will be no more results."""
        self.ended = True
        self.bell.ring()

    def close(self) -> None:
        self.end()
        self.encoder.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Hub:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
