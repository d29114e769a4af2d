"""CUDA's driver through pycuda, for whoever has that and not cuda-python.

Its objects free themselves once forgotten, so they are kept here under the handles that are given out. A context
left on a thread's stack makes it abort the process at exit, so none is: each call pushes and pops.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np

from fcn_edge.cuda.errors import NO_DRIVER, driver_error, no_gpu, too_little
from fcn_edge.cuda.memory import Gpu, Three
from fcn_edge.errors import BackendError

INSTALL = "pip install pycuda, which wants a compiler and CUDA's toolkit; or: pip install 'cuda-python>=12.9.1'"


class PyCuda:
    """A Driver. Raises BackendError where pycuda, the driver or the GPU of that index is missing."""

    name = "pycuda"

    def __init__(self, index: int = 0) -> None:
        self._cuda = _module()
        self.version = import_module("pycuda").VERSION_TEXT
        self._kept: dict[int, Any] = {}
        self._count = itertools.count(1)
        with self._translated("init"):
            self._cuda.init()
            count = self._cuda.Device.count()
        if not 0 <= index < count:
            raise no_gpu(index, count)
        with self._translated("retain_primary_context"):
            device = self._cuda.Device(index)
            self.gpu = self._describe(index, device)
            self._context = device.retain_primary_context()

    def _describe(self, index: int, device: Any) -> Gpu:
        attribute = self._cuda.device_attribute
        version = self._cuda.get_driver_version()
        return Gpu(
            index=index,
            name=device.name(),
            compute_capability=tuple(device.compute_capability()),
            sm_count=device.get_attribute(attribute.MULTIPROCESSOR_COUNT),
            memory=device.total_memory(),
            integrated=bool(device.get_attribute(attribute.INTEGRATED)),
            cuda=(version // 1000, version % 1000 // 10),
        )

    def push(self) -> None:
        with self._translated("push"):
            self._context.push()

    def pop(self) -> None:
        with self._translated("pop"):
            self._cuda.Context.pop()

    def release(self) -> None:
        with self._translated("detach"):
            self._kept.clear()
            self._context.detach()

    def free_memory(self) -> int:
        with self._translated("mem_get_info"):
            return self._cuda.mem_get_info()[0]

    def allocate(self, nbytes: int) -> int:
        try:
            with self._translated("mem_alloc"):
                memory = self._cuda.mem_alloc(nbytes)
        except BackendError as error:
            raise too_little(error, nbytes, self.free_memory()) from error
        self._kept[int(memory)] = memory
        return int(memory)

    def free(self, pointer: int) -> None:
        with self._translated("mem_free"):
            self._kept.pop(pointer).free()

    def allocate_host(self, nbytes: int) -> tuple[int, int]:
        flags = self._cuda.host_alloc_flags
        with self._translated("pagelocked_empty"):
            array = self._cuda.pagelocked_empty(nbytes, np.uint8, mem_flags=flags.PORTABLE | flags.DEVICEMAP)
            self._kept[array.ctypes.data] = array
            return array.ctypes.data, int(array.base.get_device_pointer())

    def free_host(self, address: int) -> None:
        with self._translated("pagelocked free"):
            self._kept.pop(address).base.free()

    def create_stream(self) -> int:
        with self._translated("Stream"):
            stream = self._cuda.Stream(1)  # CU_STREAM_NON_BLOCKING, for which pycuda has no name
            self._kept[stream.handle] = stream
            return stream.handle

    def synchronize_stream(self, stream: int) -> None:
        with self._translated("Stream.synchronize"):
            self._kept[stream].synchronize()

    def upload(self, pointer: int, address: int, nbytes: int, stream: int) -> None:
        with self._translated("memcpy_htod_async"):
            self._cuda.memcpy_htod_async(pointer, _memory(address, nbytes), self._kept[stream])

    def download(self, address: int, pointer: int, nbytes: int, stream: int) -> None:
        with self._translated("memcpy_dtoh_async"):
            self._cuda.memcpy_dtoh_async(_memory(address, nbytes), pointer, self._kept[stream])

    def copy(self, to: int, pointer: int, nbytes: int, stream: int) -> None:
        with self._translated("memcpy_dtod_async"):
            self._cuda.memcpy_dtod_async(to, pointer, nbytes, self._kept[stream])

    def create_event(self, timing: bool) -> int:
        flags = self._cuda.event_flags
        with self._translated("Event"):
            return self._keep(self._cuda.Event(flags.DEFAULT if timing else flags.DISABLE_TIMING))

    def record(self, event: int, stream: int) -> None:
        with self._translated("Event.record"):
            self._kept[event].record(self._kept[stream])

    def wait(self, stream: int, event: int) -> None:
        with self._translated("Stream.wait_for_event"):
            self._kept[stream].wait_for_event(self._kept[event])

    def synchronize_event(self, event: int) -> None:
        with self._translated("Event.synchronize"):
            self._kept[event].synchronize()

    def milliseconds(self, start: int, end: int) -> float:
        with self._translated("Event.time_since"):
            return self._kept[end].time_since(self._kept[start])

    def begin_capture(self, stream: int) -> None:
        # Of this thread alone: another one may allocate meanwhile, which would void a capture of the whole process.
        with self._translated("Stream.begin_capture"):
            self._kept[stream].begin_capture(self._cuda.capture_mode.THREAD_LOCAL)

    def end_capture(self, stream: int) -> int:
        with self._translated("Stream.end_capture"):
            return self._keep(self._kept[stream].end_capture().instantiate())

    def abandon_capture(self, stream: int) -> None:
        with self._translated("Stream.end_capture"):
            self._kept[stream].end_capture()

    def launch_graph(self, graph: int, stream: int) -> None:
        with self._translated("Graph.launch"):
            self._kept[graph].launch(self._kept[stream])

    def load_module(self, image: bytes) -> int:
        with self._translated("module_from_buffer"):
            return self._keep(self._cuda.module_from_buffer(image))

    def function(self, module: int, name: str) -> int:
        with self._translated("Module.get_function"):
            return self._keep(self._kept[module].get_function(name))

    def launch(
        self, function: int, grid: Three, block: Three, shared: int, arguments: ctypes.Structure, stream: int
    ) -> None:
        with self._translated("launch"):
            packed = np.void(bytes(arguments))  # which pycuda passes on as it is
            self._kept[function](packed, grid=grid, block=block, shared=shared, stream=self._kept[stream])

    def _keep(self, thing: Any) -> int:
        handle = next(self._count)
        self._kept[handle] = thing
        return handle

    def _forget(self, handle: int) -> None:
        self._kept.pop(handle)

    destroy_stream = destroy_event = destroy_graph = unload_module = _forget

    @contextmanager
    def _translated(self, call: str) -> Iterator[None]:
        try:
            yield
        except self._cuda.Error as error:  # "cuMemAlloc failed: out of memory"
            name, _, words = str(error).partition(" failed: ")
            raise driver_error(name, (words or name).split(" - ")[0].strip().upper().replace(" ", "_")) from error
        except AttributeError as error:
            raise BackendError(f"This pycuda ({self.version}) has no {call}. Install cuda-python.") from error


def _memory(address: int, nbytes: int) -> Any:
    return (ctypes.c_uint8 * nbytes).from_address(address)


def _module() -> Any:
    try:
        return import_module("pycuda.driver")
    except ModuleNotFoundError as error:
        raise BackendError(f"pycuda is not installed: {INSTALL}") from error
    except ImportError as error:  # libcuda.so.1 is not there
        raise BackendError(NO_DRIVER) from error
