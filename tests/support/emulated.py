"""A stand-in for a GPU, where none can be had: `Cuda` over the CPU's memory, with the kernels' own source.

g++ compiles emulator.cpp, which includes kernels.cu. Streams do nothing before the CPU waits for one of them, and
then take steps in an order left to chance, as far as their events allow. So what the CPU or another stream reads or
writes too early shows.
Shown are the arithmetic, the barriers, the order of streams, who frees what, and that nobody writes beyond a buffer.
Nothing is shown of the driver.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from fcn_edge.cuda.kernels import Kernels, source
from fcn_edge.cuda.memory import Cuda, Gpu, Three
from fcn_edge.errors import BackendError

HERE = Path(__file__).parent
GUARD = 64  # bytes before and after each buffer that nobody may write
OPTIONS = (
    *("-std=c++17", "-O2", "-fno-strict-aliasing", "-Wall", "-Werror"),
    "-ffp-contract=off",  # as --fmad=false for NVRTC
    "-U_FORTIFY_SOURCE",  # which takes a jump to another stack for an attack
)
FAILURES = {1: "there is no such kernel", 2: "a block does not fit", 3: "it writes beyond its shared memory"}


@cache
def library() -> ctypes.PyDLL:
    """The emulator, compiled once a version of the sources. One thread at a time runs in it, as PyDLL keeps the GIL."""
    made_from = source() + (HERE / "emulator.cpp").read_text() + repr(OPTIONS)
    folder = Path(tempfile.gettempdir()) / f"fcn-edge-emulator-{os.getuid()}"
    path = folder / f"{hashlib.sha256(made_from.encode()).hexdigest()[:16]}.so"
    if not path.exists():
        folder.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}")
        include = HERE.parents[1] / "fcn_edge" / "cuda"
        command = [
            "g++",
            *OPTIONS,
            "-shared",
            "-fPIC",
            f"-I{include}",
            str(HERE / "emulator.cpp"),
            "-o",
            str(temporary),
        ]
        subprocess.run(command, check=True)
        temporary.replace(path)
    return ctypes.PyDLL(str(path))


@dataclass
class _Mark:
    """An event as it was recorded once."""

    stream: int
    passed: bool = False


Step = Callable[[], Any] | _Mark  # something to do, or an event to wait for


def _may_start(step: Step) -> bool:
    return not isinstance(step, _Mark) or step.passed


class Emulated:
    """A Driver. `falling`: the order in which a block's threads run."""

    name = "emulated"
    version = "0"
    gpu = Gpu(0, "a stand-in", (8, 7), 1, 1 << 30, True, (12, 6))

    def __init__(self, falling: bool = False) -> None:
        self.falling = falling
        self.depth = 0
        self.released = False
        self._buffers: dict[int, np.ndarray[Any, Any]] = {}
        self._things: dict[int, Any] = {}
        self._chance = Random(0)
        self._queues: dict[int, deque[Step]] = {}
        self._marks: dict[int, _Mark] = {}  # by event
        self.capturing: list[Step] | None = None

    def push(self) -> None:
        self.depth += 1

    def pop(self) -> None:
        self.depth -= 1

    def release(self) -> None:
        self.released = True

    def free_memory(self) -> int:
        return self.gpu.memory - sum(buffer.nbytes - 2 * GUARD for buffer in self._buffers.values())

    def allocate(self, nbytes: int) -> int:
        if nbytes > self.free_memory():
            raise BackendError(f"out of memory: {nbytes} bytes")
        buffer = np.full(nbytes + 2 * GUARD + 256, 0xA5, np.uint8)
        shift = -(buffer.ctypes.data + GUARD) % 256  # aligned as cuMemAlloc does
        buffer = buffer[shift : shift + nbytes + 2 * GUARD]
        pointer = buffer.ctypes.data + GUARD
        self._buffers[pointer] = buffer
        return pointer

    def free(self, pointer: int) -> None:
        for stream in self._queues:  # as the driver does: it waits
            self._finish(stream)
        buffer = self._buffers.pop(pointer)
        assert (buffer[:GUARD] == 0xA5).all(), "something wrote before a buffer"
        assert (buffer[-GUARD:] == 0xA5).all(), "something wrote behind a buffer"

    def allocate_host(self, nbytes: int) -> tuple[int, int]:
        pointer = self.allocate(nbytes)
        return pointer, pointer

    free_host = free

    def create_stream(self) -> int:
        stream = self._keep("stream")
        self._queues[stream] = deque()
        return stream

    def destroy_stream(self, stream: int) -> None:
        self._finish(stream)
        self._forget(stream)

    def synchronize_stream(self, stream: int) -> None:
        assert self._things[stream] == "stream"
        assert self.capturing is None, "no graph can hold that"
        self._finish(stream)

    def upload(self, pointer: int, address: int, nbytes: int, stream: int) -> None:
        self._do(stream, lambda: ctypes.memmove(pointer, address, nbytes))

    download = copy = upload

    def create_event(self, timing: bool) -> int:
        return self._keep("event")

    def record(self, event: int, stream: int) -> None:
        mark = self._marks[event] = _Mark(stream)
        self._do(stream, lambda: setattr(mark, "passed", True))

    def wait(self, stream: int, event: int) -> None:
        if mark := self._marks.get(event):
            self._do(stream, mark)

    def synchronize_event(self, event: int) -> None:
        if mark := self._marks.get(event):
            self._finish(mark.stream, mark)

    def milliseconds(self, start: int, end: int) -> float:
        return 0.0

    def begin_capture(self, stream: int) -> None:
        self.capturing = []

    def end_capture(self, stream: int) -> int:
        work, self.capturing = self.capturing, None
        return self._keep(work)

    def abandon_capture(self, stream: int) -> None:
        self.capturing = None

    def launch_graph(self, graph: int, stream: int) -> None:
        for step in self._things[graph]:
            self._do(stream, step)

    def load_module(self, image: bytes) -> int:
        return self._keep("module")

    def function(self, module: int, name: str) -> int:
        return self._keep(name)

    def launch(
        self, function: int, grid: Three, block: Three, shared: int, arguments: ctypes.Structure, stream: int
    ) -> None:
        name, given = self._things[function], type(arguments).from_buffer_copy(arguments)

        def run() -> None:
            failure = library().launch(
                name.encode(), (ctypes.c_uint * 3)(*grid), block[0], shared, ctypes.byref(given), self.falling
            )
            assert not failure, f"{name}: {FAILURES[failure]}"

        self._do(stream, run)

    def _do(self, stream: int, step: Step) -> None:
        assert self._things[stream] == "stream"
        assert self.depth > 0, "no context is current"
        (self._queues[stream] if self.capturing is None else self.capturing).append(step)

    def _finish(self, stream: int, mark: _Mark | None = None) -> None:
        """Do what is queued, up to the mark where one is given, and some of what other streams have queued."""
        while self._queues[stream] and not (mark and mark.passed):
            able = [queue for queue in self._queues.values() if queue and _may_start(queue[0])]
            step = self._chance.choice(able).popleft()
            if not isinstance(step, _Mark):
                step()

    def _keep(self, thing: Any) -> int:
        handle = len(self._things) + 1
        self._things[handle] = thing
        return handle

    def _forget(self, handle: int) -> None:
        assert self._things[handle] is not None, "released twice"
        self._things[handle] = None

    destroy_event = destroy_graph = unload_module = _forget


def kernels(falling: bool = False) -> Kernels:
    """The kernels on the stand-in, without NVRTC."""
    cuda = Cuda(Emulated(falling))
    module = cuda.module(b"")
    return cast(Kernels, SimpleNamespace(cuda=cuda, function=module.function, close=module.close))
