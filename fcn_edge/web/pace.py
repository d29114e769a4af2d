"""What keeps onlookers from costing the pipeline: they wait for nothing, and what is made for them has a budget.

A slow client falls behind by frames that it never asked for, not by a queue: it asks for what is newer than what it
has, and gets the newest. So nothing here holds more than one result a source.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable


class Bell:
    """Rung from any thread; wakes the coroutines that wait for something to become true."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: set[asyncio.Future[None]] = set()

    def ring(self) -> None:
        loop = self._loop
        if loop is not None and self._waiting:
            with contextlib.suppress(RuntimeError):  # the loop was closed in this moment
                loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    async def wait_for(self, ready: Callable[[], bool], seconds: float) -> bool:
        """Whether `ready()` became true in time; asked anew after each ring."""
        self._loop = loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        while True:
            rung = loop.create_future()
            self._waiting.add(rung)  # before asking, or a ring between the two would go unheard
            try:
                if ready():
                    return True
                if loop.time() >= end:
                    return False
                await asyncio.wait([rung], timeout=end - loop.time())
            finally:
                self._waiting.discard(rung)


class Share:
    """Work done piece after piece, in at most this part of one core's time."""

    def __init__(self, part: float) -> None:
        self.part = part
        self.free_at = 0.0  # time.monotonic()

    @property
    def free(self) -> bool:
        return time.monotonic() >= self.free_at

    async def wait(self) -> None:
        await asyncio.sleep(max(0.0, self.free_at - time.monotonic()))

    def spent(self, seconds: float) -> None:
        self.free_at = time.monotonic() + seconds * max(0.0, 1 / self.part - 1)


class Turns:
    """One after another, at most `rate` a second, whoever came first."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._next = 0.0

    async def take(self) -> None:
        now = time.monotonic()
        mine = max(now, self._next)
        self._next = mine + 1 / self.rate
        if mine > now:
            await asyncio.sleep(mine - now)
