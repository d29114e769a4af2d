"""What one frame in flight holds of the GPU: a stream, page-locked memory at both ends, marks in time.

Memory only ever grows to the largest frame seen, so a stream of changing sizes costs what its largest does.
"""

from __future__ import annotations

import time

import numpy as np

from fcn_edge.cuda.memory import Buffer, Cuda, Event, HostBuffer
from fcn_edge.runtime.common import Array

MARKS = (
    "begin",
    "up",  # the frame is on the GPU
    "turn",  # the frame before has left the network
    "prepared",
    "scored",
    "free",  # network and output are the next one's
    "end",
)


class Room:
    """Memory that is as large as the largest that was asked of it: `host` page-locked, `device` on the GPU."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.host: HostBuffer = cuda.host(1)
        self.device: Buffer = cuda.device(1)

    def fit(self, nbytes: int) -> None:
        """Make both at least so large. Nothing that uses them may be in flight."""
        if self.host.nbytes < nbytes:
            self.host.close()
            self.host = self._cuda.host(nbytes)
        if self.device.nbytes < nbytes:
            self.device.close()
            self.device = self._cuda.device(nbytes)

    def array(self, shape: tuple[int, ...], dtype: str) -> Array:
        """The first bytes of the host's memory as an array of that shape."""
        memory: Array = np.frombuffer(self.host.array, dtype, int(np.prod(shape)))
        return np.reshape(memory, shape)


class Lane:
    """One of the frames in flight."""

    def __init__(self, cuda: Cuda) -> None:
        self.stream = cuda.stream()
        self.frame, self.result = Room(cuda), Room(cuda)
        self.marks: dict[str, Event] = {name: cuda.event(timing=True) for name in MARKS}
        self.staged = 0.0  # seconds that the CPU took to put the frame into page-locked memory

    def stage(self, frame: Array, nbytes: int) -> None:
        """Put `frame` where it can be copied from; `nbytes` is what a kernel may read of it on the GPU."""
        start = time.perf_counter()
        self.frame.fit(max(nbytes, frame.nbytes))
        np.copyto(self.frame.array(frame.shape, str(frame.dtype)), frame)
        self.staged = time.perf_counter() - start

    def mark(self, name: str) -> None:
        self.marks[name].record(self.stream)

    def stages(self, copied: float, decoded: bool) -> dict[str, float]:
        """Seconds of what ended: by the GPU's clock between marks, and what the CPU copied at either end.

        copied: of those, seconds that the CPU took at the end. decoded: labels came off the GPU, not scores.
        What was waited for between "up" and "turn" is the frame before, and left out.
        """
        marks = self.marks
        reached = marks["free"] if decoded else marks["scored"]  # from here on there was nothing but copying
        return {
            "to_device": self.staged + marks["up"].since(marks["begin"]),
            "prepare": marks["prepared"].since(marks["turn"]),
            "infer": marks["scored"].since(marks["prepared"]),
            "decode": reached.since(marks["scored"]) if decoded else 0.0,
            "from_device": marks["end"].since(reached) + copied,
        }

    def close(self) -> None:
        self.stream.synchronize()
        for held in (self.stream, *self.marks.values()):
            held.close()
        for room in (self.frame, self.result):
            room.host.close()
            room.device.close()
