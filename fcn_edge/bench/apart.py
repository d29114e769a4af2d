"""Other people's code that reads a model file or loads the machine, in a process of its own.

The process that measures must outlive everything that it measures, and what idles in it must not have threads.
"""

from __future__ import annotations

import signal
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from types import TracebackType
from typing import ParamSpec, TypeVar

from fcn_edge.errors import BackendError

P = ParamSpec("P")
T = TypeVar("T")


class Apart:
    """Calls functions of modules there, one at a time."""

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None

    def call(self, function: Callable[P, T], *args: P.args, **named: P.kwargs) -> T:
        """What it returns. Raises BackendError where its process ended, and whatever it raises."""
        if self._pool is None:
            self._pool = ProcessPoolExecutor(1, get_context("spawn"), _leave_interrupts)
        try:
            return self._pool.submit(function, *args, **named).result()
        except BrokenProcessPool as error:
            self._pool = None
            raise BackendError(f"the process of {function.__module__} crashed.") from error

    def close(self) -> None:
        """End the process; calling it again does nothing."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> Apart:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _leave_interrupts() -> None:
    """Ctrl-C reaches all processes of a terminal; the one that measures ends this one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
