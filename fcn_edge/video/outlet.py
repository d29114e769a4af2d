"""Before each sink waits a little queue, and behind it works a thread that nobody else waits for.

A sink that shows what is now gets the newest result, and so does every sink of a live source: what they
were too slow for is counted. A file waits for a sink that records it. A sink that fails, or hangs, is left
behind, and the others go on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from fcn_edge.errors import FcnEdgeError, SinkError
from fcn_edge.video.channel import Channel
from fcn_edge.video.feed import Delivery
from fcn_edge.video.sinks import Result, WindowSink

WAITING = 2  # results; one and x264's slowest frame would cost the next one
WAITING_BYTES = 128 * 2**20


class Outlet:
    """One sink. `put` is called by one thread, and `run` by another, which alone touches the sink.

    still: of a source of single pictures, which are all worth seeing.
    """

    def __init__(self, delivery: Delivery, live: bool, still: bool, wake: threading.Event) -> None:
        self.delivery = delivery
        self.sink = delivery.sink
        self.lossy = live or (self.sink.live and not still)
        self.on_main_thread = isinstance(self.sink, WindowSink)  # which a window wants
        self.defect: BaseException | None = None
        self.busy_since: float | None = None
        self.moved = time.monotonic()  # when it last got on
        self.ended = False
        self._entered = False
        self._wake = wake
        added: Callable[[], object] = wake.set if self.on_main_thread else lambda: None
        self._channel: Channel[tuple[Result, bool]] = Channel(1 if self.sink.live else WAITING, WAITING_BYTES, added)

    @property
    def failed(self) -> bool:
        return self.delivery.error is not None or self.defect is not None

    def put(self, result: Result, counts: bool = True) -> None:
        """For the sink, when it has time for it. What does not `count` was shown before."""
        size = 0 if result.picture is None else result.picture.nbytes
        if self.lossy:
            lost = self._channel.replace((result, counts), size + result.frame.image.nbytes)
            self.delivery.lost += lost
        else:
            self._channel.put((result, counts), size + result.frame.image.nbytes)

    def close(self) -> None:
        """No more comes."""
        self._channel.close()

    def give_up(self, why: str) -> None:
        """Wait for it no longer."""
        self.delivery.error = self.delivery.error or SinkError(f"{self.sink.where}: {why}")
        self._channel.abandon()

    def start(self) -> None:
        if not self.on_main_thread:
            threading.Thread(target=self._run, name="write", daemon=True).start()

    def step(self) -> None:
        """What a thread would do all the time, once, for a sink on the main thread."""
        if self.ended:
            return
        try:
            self._enter()
            if (item := self._channel.take(0)) is not None:
                self._write(*item)
            if self._channel.ended:
                self._leave(None)
        except FcnEdgeError as error:
            self._fail(error)
            self._leave(error)

    def _run(self) -> None:
        try:
            self._enter()
            for item in self._channel:
                self._write(*item)
            self._leave(None)
        except FcnEdgeError as error:
            self._fail(error)
            self._leave(error)
        except BaseException as error:
            self.defect = error
            self._leave(error)

    def _enter(self) -> None:
        if not self._entered:
            self._entered = True
            self.sink.__enter__()

    def _write(self, result: Result, counts: bool) -> None:
        self.busy_since = self.moved = before = time.monotonic()
        self.sink.write(result)
        after = self.moved = time.monotonic()
        self.busy_since = None
        if counts:
            self.delivery.written += 1
            self.delivery.write.add(after - before)
            self.delivery.age.add(after - result.frame.captured)

    def _leave(self, error: BaseException | None) -> None:
        self.busy_since = self.moved = time.monotonic()
        try:
            if self._entered:
                self.sink.__exit__(type(error) if error else None, error, error.__traceback__ if error else None)
        except FcnEdgeError as another:
            self._fail(another)
        except BaseException as another:
            self.defect = self.defect or another
        finally:
            self._channel.abandon()
            self.busy_since = None
            self.ended = True
            self._wake.set()

    def _fail(self, error: FcnEdgeError) -> None:
        self.delivery.error = self.delivery.error or error
        self._channel.abandon()
        self._wake.set()
