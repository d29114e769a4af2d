"""CUDA's driver through cuda-python, 12.9.1 to 13.x, by its low-level bindings: the ones that have kept still.

Earlier bindings keep the interpreter's lock while they wait, so that no other thread moves until the GPU is done
(cuda-bindings 12.9.1 Release notes). Importing them proves nothing, as they load the driver at the first call: without
one, 13.x raises an error of its own there, and 12.x a RuntimeError. A handle is the integer that the driver knows it
by, which any binding takes.
"""

from __future__ import annotations

import ctypes
from importlib import import_module, metadata
from typing import Any

from fcn_edge.cuda.errors import NO_DRIVER, driver_error, no_gpu, too_little
from fcn_edge.cuda.memory import Gpu, Three
from fcn_edge.errors import BackendError

INSTALL = "pip install 'cuda-python>=12.9.1', or on a Jetson with JetPack 6: pip install 'cuda-python==12.9.*'"


class CudaPython:
    """A Driver. Raises BackendError where cuda-python, the driver or the GPU of that index is missing."""

    name = "cuda-python"

    def __init__(self, index: int = 0) -> None:
        self._cuda = _bindings()
        self.version = metadata.version("cuda-bindings")
        self._call("cuInit", 0)
        count = self._call("cuDeviceGetCount")
        if not 0 <= index < count:
            raise no_gpu(index, count)
        self._device = self._call("cuDeviceGet", index)
        self.gpu = self._describe(index)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)

    def _describe(self, index: int) -> Gpu:
        def attribute(name: str) -> int:
            kind = getattr(self._cuda.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
            return self._call("cuDeviceGetAttribute", kind, self._device)

        name = self._call("cuDeviceGetName", 100, self._device).split(b"\0")[0].decode()
        version = self._call("cuDriverGetVersion")  # 12060 is 12.6
        return Gpu(
            index=index,
            name=name,
            compute_capability=(attribute("COMPUTE_CAPABILITY_MAJOR"), attribute("COMPUTE_CAPABILITY_MINOR")),
            sm_count=attribute("MULTIPROCESSOR_COUNT"),
            memory=self._call("cuDeviceTotalMem", self._device),
            integrated=bool(attribute("INTEGRATED")),
            cuda=(version // 1000, version % 1000 // 10),
        )

    def push(self) -> None:
        self._call("cuCtxPushCurrent", self._context)

    def pop(self) -> None:
        self._call("cuCtxPopCurrent")

    def release(self) -> None:
        self._call("cuDevicePrimaryCtxRelease", self._device)

    def free_memory(self) -> int:
        return self._call("cuMemGetInfo")[0]

    def allocate(self, nbytes: int) -> int:
        try:
            return int(self._call("cuMemAlloc", nbytes))
        except BackendError as error:
            raise too_little(error, nbytes, self.free_memory()) from error

    def free(self, pointer: int) -> None:
        self._call("cuMemFree", pointer)

    def allocate_host(self, nbytes: int) -> tuple[int, int]:
        flags = self._cuda.CU_MEMHOSTALLOC_PORTABLE | self._cuda.CU_MEMHOSTALLOC_DEVICEMAP
        address = int(self._call("cuMemHostAlloc", nbytes, flags))
        return address, int(self._call("cuMemHostGetDevicePointer", address, 0))

    def free_host(self, address: int) -> None:
        self._call("cuMemFreeHost", address)

    def create_stream(self) -> int:
        return int(self._call("cuStreamCreate", self._cuda.CUstream_flags.CU_STREAM_NON_BLOCKING))

    def destroy_stream(self, stream: int) -> None:
        self._call("cuStreamDestroy", stream)

    def synchronize_stream(self, stream: int) -> None:
        self._call("cuStreamSynchronize", stream)

    def upload(self, pointer: int, address: int, nbytes: int, stream: int) -> None:
        self._call("cuMemcpyHtoDAsync", pointer, address, nbytes, stream)

    def download(self, address: int, pointer: int, nbytes: int, stream: int) -> None:
        self._call("cuMemcpyDtoHAsync", address, pointer, nbytes, stream)

    def copy(self, to: int, pointer: int, nbytes: int, stream: int) -> None:
        self._call("cuMemcpyDtoDAsync", to, pointer, nbytes, stream)

    def create_event(self, timing: bool) -> int:
        flags = self._cuda.CUevent_flags
        return int(self._call("cuEventCreate", flags.CU_EVENT_DEFAULT if timing else flags.CU_EVENT_DISABLE_TIMING))

    def destroy_event(self, event: int) -> None:
        self._call("cuEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("cuEventRecord", event, stream)

    def wait(self, stream: int, event: int) -> None:
        self._call("cuStreamWaitEvent", stream, event, 0)

    def synchronize_event(self, event: int) -> None:
        self._call("cuEventSynchronize", event)

    def milliseconds(self, start: int, end: int) -> float:
        return float(self._call("cuEventElapsedTime", start, end))

    def begin_capture(self, stream: int) -> None:
        # Of this thread alone: another one may allocate meanwhile, which would void a capture of the whole process.
        mode = self._cuda.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)

    def end_capture(self, stream: int) -> int:
        graph = self._call("cuStreamEndCapture", stream)
        try:
            return int(self._call("cuGraphInstantiate", graph, 0))
        finally:
            self._call("cuGraphDestroy", graph)

    def abandon_capture(self, stream: int) -> None:
        self._call("cuGraphDestroy", self._call("cuStreamEndCapture", stream))

    def launch_graph(self, graph: int, stream: int) -> None:
        self._call("cuGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cuGraphExecDestroy", graph)

    def load_module(self, image: bytes) -> int:
        return int(self._call("cuModuleLoadData", image))

    def unload_module(self, module: int) -> None:
        self._call("cuModuleUnload", module)

    def function(self, module: int, name: str) -> int:
        return int(self._call("cuModuleGetFunction", module, name.encode()))

    def launch(
        self, function: int, grid: Three, block: Three, shared: int, arguments: ctypes.Structure, stream: int
    ) -> None:
        # The driver copies what it is pointed to before this returns.
        parameters = (ctypes.c_void_p * 1)(ctypes.addressof(arguments))
        self._call("cuLaunchKernel", function, *grid, *block, shared, stream, ctypes.addressof(parameters), 0)

    def _call(self, name: str, *arguments: Any) -> Any:
        """What the call gives back behind its status; a tuple where that is several things."""
        try:
            status, *values = getattr(self._cuda, name)(*arguments)
        except RuntimeError as error:  # the driver, or this call in it, is not there
            raise BackendError(NO_DRIVER) from error
        if status != self._cuda.CUresult.CUDA_SUCCESS:
            raise driver_error(name, status.name.removeprefix("CUDA_ERROR_"))
        return values[0] if len(values) == 1 else tuple(values)


def _bindings() -> Any:
    try:
        return import_module("cuda.bindings.driver")
    except ImportError as error:
        raise BackendError(f"cuda-python is not installed: {INSTALL}") from error
