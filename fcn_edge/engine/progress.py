"""How far a build is, and how it is ended early.

TensorRT builds on a thread of its own while the caller's waits: Python raises KeyboardInterrupt on the main thread
alone, and an exception inside one of TensorRT's callbacks would end the process, so they say stop by what they return.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from threading import Event, Lock
from typing import Any, TypeVar

from fcn_edge.engine.versions import Trt

Progress = Callable[[float, str], None]  # a share from 0 to 1, and the phase in TensorRT's words
T = TypeVar("T")


def interruptible(work: Callable[[Event], T]) -> T:
    """What `work` returns, run on another thread; where this one is interrupted, the event tells `work` to end.

    The interrupt goes on only when `work` has ended, so that what it has open is closed.
    """
    cancelled = Event()
    with ThreadPoolExecutor(1, thread_name_prefix="fcn-edge-build") as threads:
        future = threads.submit(work, cancelled)
        try:
            return future.result()
        except BaseException:
            cancelled.set()
            raise


@dataclass
class _Phase:
    parent: str | None
    steps: int
    done: int = 0
    left: float = 1.0  # of the present step, after the phases below it that ended


class Phases:
    """The phases that are open, each within one step of the phase above it.

    How many phases a step holds is not told, so each gets half of what the ones before left of it. Their times differ
    by orders anyway: the share is a sign of life, and never goes back.
    """

    def __init__(self) -> None:
        self._open: dict[str, _Phase] = {}
        self._lock = Lock()  # TensorRT calls from several threads
        self._share = 0.0

    def start(self, name: str, parent: str | None, steps: int) -> None:
        with self._lock:
            self._open[name] = _Phase(parent, max(1, steps))

    def step(self, name: str, step: int) -> tuple[float, str]:
        """The share that is done after this step, and of the phases around it the one with most steps: "Name 3/25"."""
        with self._lock:
            if name not in self._open:
                return self._share, name
            phase = self._open[name]
            phase.done, phase.left = max(phase.done, step + 1), 1.0
            chain = list(self._chain(name))
            inner = 0.0
            for each in chain:
                inner = min(1.0, (each.done + 1 - each.left * (1 - inner / 2)) / each.steps)
            self._share = max(self._share, inner)
            told = max(chain[:-1] or chain, key=lambda each: each.steps)
            title = next(title for title, each in self._open.items() if each is told)
            return self._share, f"{title} {told.done}/{told.steps}"

    def finish(self, name: str) -> None:
        with self._lock:
            ended = self._open.pop(name, None)
            above = self._open.get(ended.parent or "") if ended else None
            if above is not None:
                above.left /= 2

    def _chain(self, name: str | None) -> Iterator[_Phase]:
        """The phase and those above it, up to one that is in none."""
        passed: set[str] = set()
        while name is not None and name in self._open and name not in passed:
            passed.add(name)
            yield self._open[name]
            name = self._open[name].parent


def monitor(trt: Trt, progress: Progress | None, cancelled: Event) -> Any:
    """TensorRT's progress monitor, which tells `progress` and ends the build once `cancelled` is set."""
    api = trt.api
    phases = Phases()

    class Monitor(api.IProgressMonitor):
        def __init__(self) -> None:
            api.IProgressMonitor.__init__(self)

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            phases.start(phase_name, parent_phase, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            told = phases.step(phase_name, step)
            if progress is not None and not cancelled.is_set():
                with suppress(Exception):  # a bar that cannot be drawn is no reason to end the process
                    progress(*told)
            return not cancelled.is_set()

        def phase_finish(self, phase_name: str) -> None:
            phases.finish(phase_name)

    return Monitor()
