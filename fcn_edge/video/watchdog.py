"""Says which part of a run stands still, and tells systemd that the run as a whole does not.

A run that nobody watches must not stop in silence. A lost source is no standstill: it is looked for. Where
systemd started the run with WatchdogSec, it restarts one whose network or sinks hang.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable

STILL = 10.0  # seconds over one frame; a 24-megapixel photo takes a CPU four
NOTIFY_EVERY = 1.0


class Watchdog:
    """tell: called with a line when something stands still, and when it goes on."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._standing: dict[str, float] = {}  # name to since when
        self._notified = 0.0

    def look(self, stages: Iterable[tuple[str, float | None]], now: float) -> None:
        """stages: each with the time.monotonic() since when it has been at one thing; None while it has nothing."""
        for name, since in stages:
            told = self._standing.get(name)
            if told is not None and since != told:
                del self._standing[name]
                self._tell(f"{name} goes on after {now - told:.0f} s.")
            elif told is None and since is not None and now - since > STILL:
                self._standing[name] = since
                self._tell(f"{name} has stood still for {STILL:.0f} s.")
        if not self._standing and now - self._notified > NOTIFY_EVERY:
            self._notified = now
            notify("WATCHDOG=1")


def notify(message: str) -> None:
    """A message to systemd, where it started this process and asked for one (sd_notify(3))."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address or not hasattr(socket, "AF_UNIX"):
        return
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as to:
            to.sendto(message.encode(), "\0" + address[1:] if address.startswith("@") else address)
    except OSError:  # systemd is gone, and there is nobody to tell
        pass
