"""Memory, streams, events and graphs of one GPU, the same over cuda-python and over pycuda.

What is made here is used from any thread: CUDA keeps one current context a thread, and other libraries set
theirs. So each call makes the device's primary context current, the one that TensorRT uses too, and puts back
what was current before. TensorRT's own calls stand within `Cuda.current()`.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike

from fcn_edge.errors import BackendError

Three = tuple[int, int, int]


@dataclass(frozen=True)
class Gpu:
    """What the driver says of a device."""

    index: int
    name: str
    compute_capability: tuple[int, int]
    sm_count: int
    memory: int  # bytes
    integrated: bool  # shares the host's memory, as Jetsons do: mapped host memory then costs no copy
    cuda: tuple[int, int]  # the newest CUDA that the driver runs


class Driver(Protocol):
    """The calls of CUDA's driver that an adapter provides; handles and addresses are integers.

    Every call but `push` wants the context current; each raises BackendError with the driver's own words.
    """

    name: str  # "cuda-python"
    version: str
    gpu: Gpu

    def push(self) -> None: ...
    def pop(self) -> None: ...
    def release(self) -> None: ...  # gives the primary context back

    def free_memory(self) -> int: ...
    def allocate(self, nbytes: int, /) -> int: ...
    def free(self, pointer: int, /) -> None: ...
    def allocate_host(self, nbytes: int, /) -> tuple[int, int]: ...  # page-locked: its address here, and on the GPU
    def free_host(self, address: int, /) -> None: ...

    def create_stream(self) -> int: ...
    def destroy_stream(self, stream: int, /) -> None: ...
    def synchronize_stream(self, stream: int, /) -> None: ...
    def upload(self, pointer: int, address: int, nbytes: int, stream: int, /) -> None: ...
    def download(self, address: int, pointer: int, nbytes: int, stream: int, /) -> None: ...
    def copy(self, to: int, pointer: int, nbytes: int, stream: int, /) -> None: ...

    def create_event(self, timing: bool, /) -> int: ...
    def destroy_event(self, event: int, /) -> None: ...
    def record(self, event: int, stream: int, /) -> None: ...
    def wait(self, stream: int, event: int, /) -> None: ...
    def synchronize_event(self, event: int, /) -> None: ...
    def milliseconds(self, start: int, end: int, /) -> float: ...

    def begin_capture(self, stream: int, /) -> None: ...
    def end_capture(self, stream: int, /) -> int: ...  # a graph that can be launched
    def abandon_capture(self, stream: int, /) -> None: ...
    def launch_graph(self, graph: int, stream: int, /) -> None: ...
    def destroy_graph(self, graph: int, /) -> None: ...

    def load_module(self, image: bytes, /) -> int: ...
    def unload_module(self, module: int, /) -> None: ...
    def function(self, module: int, name: str, /) -> int: ...
    def launch(
        self, function: int, grid: Three, block: Three, shared: int, arguments: ctypes.Structure, stream: int, /
    ) -> None: ...


class Cuda:
    """One GPU, opened. Everything it gives out is released by its own `close`, or with this one's."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.gpu = driver.gpu
        self.versions = {driver.name: driver.version, "cuda": ".".join(map(str, driver.gpu.cuda))}
        self._held: dict[int, Resource] = {}
        self._depth = threading.local()
        self._closed = False

    @contextmanager
    def current(self) -> Iterator[None]:
        """Within it, this thread's CUDA calls go to this GPU. May be nested, which costs nothing."""
        if self._closed:
            raise BackendError(f"{self.gpu.name} was closed. Open the backend again.")
        depth = getattr(self._depth, "value", 0)
        if depth == 0:
            self.driver.push()
        self._depth.value = depth + 1
        try:
            yield
        finally:
            self._depth.value = depth
            if depth == 0:
                self.driver.pop()

    def device(self, nbytes: int) -> Buffer:
        """Memory on the GPU, at least one byte. Raises BackendError where there is not that much."""
        return Buffer(self, nbytes)

    def host(self, shape: int | tuple[int, ...], dtype: DTypeLike = np.uint8) -> HostBuffer:
        """Page-locked host memory, which copies at the bus's full rate and alone copies asynchronously."""
        return HostBuffer(self, shape, dtype)

    def stream(self) -> Stream:
        """A queue of work, which does not wait for the default stream."""
        return Stream(self)

    def event(self, timing: bool = False) -> Event:
        """A point in a stream that can be waited for; with `timing`, seconds between two can be asked for."""
        return Event(self, timing)

    def module(self, image: bytes) -> Module:
        """Compiled kernels. Raises BackendError where the driver cannot load them."""
        return Module(self, image)

    def upload(self, array: np.ndarray[Any, Any]) -> Buffer:
        """A copy of `array` on the GPU, there when this returns."""
        buffer = self.device(array.nbytes)
        host, stream = self.host(array.shape, array.dtype), self.stream()
        try:
            host.array[...] = array
            stream.upload(buffer, host)
            stream.synchronize()
        finally:
            stream.close()
            host.close()
        return buffer

    @property
    def held(self) -> tuple[int, int]:
        """How many things are not closed yet, and the bytes of memory among them."""
        things = list(self._held.values())
        return len(things), sum(thing.nbytes for thing in things)

    def free_memory(self) -> int:
        """Bytes that could still be allocated on the GPU, as the driver counts."""
        with self.current():
            return self.driver.free_memory()

    def close(self) -> None:
        """Release everything, last made first; calling it again does nothing."""
        if self._closed:
            return
        for resource in reversed(list(self._held.values())):
            with suppress(BackendError):  # after a fault on the GPU no call succeeds: all is lost with the context
                resource.close()
        self._closed = True
        with suppress(BackendError):
            self.driver.release()

    def __enter__(self) -> Cuda:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Resource:
    """Something of the GPU's that has to be given back once; `close` again does nothing."""

    nbytes = 0

    def __init__(self, cuda: Cuda, make: Callable[[], int], release: Callable[[int], None]) -> None:
        self.cuda = cuda
        self._release = release
        with cuda.current():
            self.handle = make()
        cuda._held[id(self)] = self

    def close(self) -> None:
        if self.cuda._held.pop(id(self), None) is not None:
            with self.cuda.current():
                self._release(self.handle)


class Buffer(Resource):
    """Memory on the GPU. `pointer` is its address there."""

    def __init__(self, cuda: Cuda, nbytes: int) -> None:
        super().__init__(cuda, lambda: cuda.driver.allocate(max(1, nbytes)), cuda.driver.free)
        self.nbytes = nbytes
        self.pointer = self.handle


class HostBuffer(Resource):
    """Page-locked memory of the host: `array` is it, `pointer` its address on the GPU.

    Kernels read and write at `pointer` without a copy: on an integrated GPU in place, elsewhere over the bus.
    The array and all views of it are dead once this is closed.
    """

    array: np.ndarray[Any, Any]
    pointer: int

    def __init__(self, cuda: Cuda, shape: int | tuple[int, ...], dtype: DTypeLike) -> None:
        elements = int(np.prod(shape))
        self.nbytes = elements * np.dtype(dtype).itemsize

        def make() -> int:
            address, self.pointer = cuda.driver.allocate_host(max(1, self.nbytes))
            return address

        super().__init__(cuda, make, cuda.driver.free_host)
        memory = (ctypes.c_uint8 * max(1, self.nbytes)).from_address(self.handle)
        self.array = np.frombuffer(memoryview(memory), dtype, elements).reshape(shape)


class Stream(Resource):
    """A queue of work on the GPU. `handle` is what TensorRT takes."""

    def __init__(self, cuda: Cuda) -> None:
        super().__init__(cuda, cuda.driver.create_stream, cuda.driver.destroy_stream)

    def upload(self, to: Buffer, source: HostBuffer, nbytes: int | None = None) -> None:
        """Copy the first `nbytes`, or all of `source`, to the GPU; `source` keeps still until that is done."""
        with self.cuda.current():
            self.cuda.driver.upload(to.pointer, source.handle, _fit(to, source, nbytes), self.handle)

    def download(self, to: HostBuffer, source: Buffer, nbytes: int | None = None) -> None:
        """Copy the first `nbytes`, or all of `to`, from the GPU; they are there once the stream is synchronized."""
        with self.cuda.current():
            self.cuda.driver.download(to.handle, source.pointer, _fit(source, to, nbytes), self.handle)

    def copy(self, to: Buffer, source: Buffer) -> None:
        """Copy all of `source` on the GPU."""
        with self.cuda.current():
            self.cuda.driver.copy(to.pointer, source.pointer, _fit(to, source, None), self.handle)

    def launch(self, function: int, grid: Three, block: Three, arguments: ctypes.Structure, shared: int = 0) -> None:
        """Run a kernel, whose one parameter is a struct; `shared` bytes of shared memory a block."""
        with self.cuda.current():
            self.cuda.driver.launch(function, grid, block, shared, arguments, self.handle)

    def wait(self, event: Event) -> None:
        """What is queued from now on starts after the event; the caller does not wait."""
        with self.cuda.current():
            self.cuda.driver.wait(self.handle, event.handle)

    def synchronize(self) -> None:
        """Wait until the queue is empty. Errors of work that was queued before are raised here too."""
        with self.cuda.current():
            self.cuda.driver.synchronize_stream(self.handle)

    def capture(self, work: Callable[[], None]) -> Graph:
        """What `work` queues on this stream, as a graph; none of it runs yet.

        `work` must not allocate on the GPU or wait for it. Raises BackendError where something in it cannot be
        captured; what `work` raises passes through.
        """
        return Graph(self, work)


class Event(Resource):
    """A point in a stream."""

    def __init__(self, cuda: Cuda, timing: bool) -> None:
        super().__init__(cuda, lambda: cuda.driver.create_event(timing), cuda.driver.destroy_event)

    def record(self, stream: Stream) -> None:
        with self.cuda.current():
            self.cuda.driver.record(self.handle, stream.handle)

    def synchronize(self) -> None:
        """Wait until the GPU has passed it; at once where it was never recorded."""
        with self.cuda.current():
            self.cuda.driver.synchronize_event(self.handle)

    def since(self, start: Event) -> float:
        """Seconds on the GPU from `start` to this one; both were made for timing, recorded and passed."""
        with self.cuda.current():
            return self.cuda.driver.milliseconds(start.handle, self.handle) / 1e3


class Graph(Resource):
    """Work that was captured, to be queued again in one call."""

    def __init__(self, stream: Stream, work: Callable[[], None]) -> None:
        driver = stream.cuda.driver

        def make() -> int:
            driver.begin_capture(stream.handle)
            try:
                work()
            except BaseException:
                with suppress(BackendError):  # the capture is void, and what `work` raised says why
                    driver.abandon_capture(stream.handle)
                raise
            return driver.end_capture(stream.handle)

        super().__init__(stream.cuda, make, driver.destroy_graph)

    def launch(self, stream: Stream) -> None:
        with self.cuda.current():
            self.cuda.driver.launch_graph(self.handle, stream.handle)


class Module(Resource):
    """Kernels that were loaded."""

    def __init__(self, cuda: Cuda, image: bytes) -> None:
        super().__init__(cuda, lambda: cuda.driver.load_module(image), cuda.driver.unload_module)

    def function(self, name: str) -> int:
        with self.cuda.current():
            return self.cuda.driver.function(self.handle, name)


def _fit(device: Buffer, other: Buffer | HostBuffer, nbytes: int | None) -> int:
    """How many bytes to copy. A copy past the end would write over a neighbour, so it is refused."""
    wanted = other.nbytes if nbytes is None else nbytes
    if not 0 <= wanted <= min(device.nbytes, other.nbytes):
        raise ValueError(f"{wanted} bytes do not fit between {device.nbytes} on the GPU and {other.nbytes}")
    return wanted
