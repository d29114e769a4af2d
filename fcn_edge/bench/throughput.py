"""Frames a second: one at a time, in a stream with two in flight, and by several Segmenters at once.

Threads that share one network wait for each other after every layer. Networks with a thread each do not, and on a CPU
they may do more in all, at the price of each frame's latency and of memory for each.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import repeat
from time import perf_counter
from typing import TYPE_CHECKING

from fcn_edge.runtime.host import physical_cores

if TYPE_CHECKING:
    import numpy as np

    from fcn_edge.segmenter import Segmenter

Beat = Callable[[], None]

LEAST = 10  # frames that a rate is made of: of two or three, where the clock stopped would decide
NOT_COUNTED = 4  # results at the beginning: a stream has to fill, and other work has just had the caches
SPARE_MEMORY = 0.5  # of what can be had, that several Segmenters may take
LOOK = 0.2  # seconds between two looks at those that run side by side


def alone(segmenter: Segmenter, frame: np.ndarray, seconds: float, beat: Beat) -> float:
    """Frames a second, each after the one before."""
    return _rate(partial(segmenter.segment, frame), seconds, beat)


def stream(segmenter: Segmenter, frame: np.ndarray, seconds: float, beat: Beat) -> float:
    """Frames a second of `Segmenter.stream`."""
    with closing(segmenter.stream(repeat(frame))) as results:
        return _rate(partial(next, results), seconds, beat)


def _rate(step: Callable[[], object], seconds: float, beat: Beat) -> float:
    for _ in range(NOT_COUNTED):
        step()
        beat()
    count, elapsed, start = 0, 0.0, perf_counter()
    while elapsed < seconds or count < LEAST:
        step()
        beat()
        count += 1
        elapsed = perf_counter() - start
    return count / elapsed


def how_many(segmenter: Segmenter, threads: int | None, memory: int, available: int | None) -> int:
    """How many Segmenters are worth trying side by side: one for each thread, or 0 where none are.

    memory: bytes that one takes. available: bytes that can be had; None where that is not known.
    On a GPU a network has all of it while it runs. PyTorch's number of threads is the process's, not a network's.
    """
    count = threads or physical_cores()
    if count == 1 or not segmenter.backend.device.startswith("CPU") or segmenter.backend.name == "torch":
        return 0
    return count if available is None or memory * count < SPARE_MEMORY * available else 0


def side_by_side(open_one: Callable[[], Segmenter], count: int, frame: np.ndarray, seconds: float, beat: Beat) -> float:
    """Frames a second in all of `count` Segmenters, each called from a thread of its own."""
    with ExitStack() as stack:
        return _race([stack.enter_context(open_one()) for _ in range(count)], frame, seconds, beat)


def _race(segmenters: Sequence[Segmenter], frame: np.ndarray, seconds: float, beat: Beat) -> float:
    done = [0] * len(segmenters)
    failures: list[Exception] = []
    start_together = threading.Barrier(len(segmenters) + 1)
    over = threading.Event()

    def work(index: int) -> None:
        try:
            segmenters[index].warm_up((frame.shape[0], frame.shape[1]))
            start_together.wait()
            while not over.is_set():
                segmenters[index].segment(frame)
                done[index] += 1
        except threading.BrokenBarrierError:  # another one failed
            pass
        except Exception as error:
            failures.append(error)
            start_together.abort()

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(segmenters))]
    for thread in threads:
        thread.start()
    with suppress(threading.BrokenBarrierError):
        start_together.wait()
    start = perf_counter()
    while not failures and (perf_counter() - start < seconds or sum(done) < LEAST):
        over.wait(LOOK)
        beat()
    count, elapsed = sum(done), perf_counter() - start
    over.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return count / elapsed
