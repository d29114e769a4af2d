"""Who frees what, whose context is current, and what the driver's errors become, without a GPU.

Ownership is tested over the stand-in for a driver (tests/support/emulated.py). cuda-python's bindings are real, and
where there is a driver to answer, tests/gpu asks it.
"""

from __future__ import annotations

import ctypes
import re
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from emulated import Emulated

from fcn_edge.cuda import cuda_python, open_cuda
from fcn_edge.cuda import errors as cuda_errors
from fcn_edge.cuda.kernels import ScaleArguments
from fcn_edge.cuda.memory import Cuda
from fcn_edge.errors import BackendError, UsageError


def opened() -> tuple[Cuda, Emulated]:
    driver = Emulated()
    return Cuda(driver), driver


def test_the_context_is_current_within_calls_alone_and_nests() -> None:
    cuda, driver = opened()
    buffer = cuda.device(4)
    assert driver.depth == 0
    with cuda.current():
        with cuda.current():
            assert driver.depth == 1
        assert driver.depth == 1
        buffer.close()
        assert driver.depth == 1
    assert driver.depth == 0


def test_the_context_is_put_back_where_a_call_fails() -> None:
    cuda, driver = opened()
    with pytest.raises(BackendError, match="out of memory"):
        cuda.device(1 << 40)
    assert driver.depth == 0
    assert cuda.held == (0, 0)


def test_bytes_come_back_as_they_went() -> None:
    cuda, _ = opened()
    array = np.arange(100, dtype=np.float32).reshape(4, 25)
    there, back = cuda.upload(array), cuda.host(array.shape, array.dtype)
    stream = cuda.stream()
    stream.download(back, there)
    stream.synchronize()
    np.testing.assert_array_equal(back.array, array)


@pytest.mark.parametrize("nbytes", [5, -1])
def test_a_copy_past_the_end_of_a_buffer_is_refused(nbytes: int) -> None:
    cuda, _ = opened()
    with pytest.raises(ValueError, match="do not fit"):
        cuda.stream().upload(cuda.device(4), cuda.host(8), nbytes)


def test_what_is_closed_is_given_back_once() -> None:
    cuda, driver = opened()
    buffer, host = cuda.device(100), cuda.host((3, 4), np.float32)
    assert cuda.held == (2, 148)
    for thing in (buffer, buffer, host):
        thing.close()
    assert cuda.held == (0, 0)
    assert driver.free_memory() == driver.gpu.memory


def test_closing_releases_everything_and_what_was_closed_says_so() -> None:
    cuda, driver = opened()
    cuda.device(100)
    cuda.host(100)
    stream = cuda.stream()
    stream.capture(lambda: None)
    cuda.close()
    cuda.close()
    assert driver.released
    assert driver.free_memory() == driver.gpu.memory
    stream.close()
    with pytest.raises(BackendError, match="a stand-in was closed"):
        cuda.device(1)


def test_a_graph_repeats_what_was_captured_and_not_before_it_is_launched() -> None:
    cuda, _ = opened()
    stream, there = cuda.stream(), cuda.device(1)
    host, back = cuda.host(1), cuda.host(1)
    back.array[0] = 0

    def work() -> None:
        stream.upload(there, host)
        stream.download(back, there)

    graph = stream.capture(work)
    for value in (7, 8):
        host.array[0] = value
        assert back.array[0] != value
        graph.launch(stream)
        assert back.array[0] != value
        stream.synchronize()
        assert back.array[0] == value


def test_what_is_raised_within_a_capture_passes_through_and_ends_it() -> None:
    cuda, driver = opened()
    stream, held = cuda.stream(), cuda.held

    def work() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        stream.capture(work)
    assert driver.capturing is None
    assert cuda.held == held
    assert driver.depth == 0


# ---------------------------------------------------------------------------------------------------- the adapters


def has_driver() -> bool:
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver")
@pytest.mark.skipif(find_spec("cuda") is None, reason="cuda-python is not installed")
def test_without_a_driver_one_line_says_so() -> None:
    with pytest.raises(BackendError, match=r"no NVIDIA driver") as refusal:
        open_cuda()
    assert "\n" not in str(refusal.value)


def test_an_unknown_adapter_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="cuda-python, pycuda"):
        open_cuda("cupy")


@pytest.mark.parametrize("adapter", ["cuda-python", "pycuda"])
def test_an_adapter_that_is_not_installed_is_answered_with_the_line_that_installs_it(
    adapter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("cuda.bindings.driver", "pycuda.driver"):
        monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(BackendError, match="not installed: pip install") as refusal:
        open_cuda(adapter)
    assert "\n" not in str(refusal.value)


def named(pattern: str) -> set[str]:
    return set(re.findall(pattern, Path(cuda_python.__file__).read_text()))


def test_every_call_that_the_adapter_names_is_in_cuda_pythons_bindings() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    calls = named(r'"(cu[A-Z]\w+)"')
    assert len(calls) > 30
    assert sorted(calls - set(dir(driver))) == []
    assert sorted(named(r"self\._cuda\.(\w+)") - set(dir(driver))) == []
    attributes = {f"CU_DEVICE_ATTRIBUTE_{name}" for name in named(r'attribute\("(\w+)"\)')}
    assert len(attributes) == 4
    assert sorted(attributes - set(dir(driver.CUdevice_attribute))) == []


def test_every_status_that_has_a_mend_is_one_of_cudas() -> None:
    driver = pytest.importorskip("cuda.bindings.driver")
    assert [name for name in cuda_errors.MENDS if not hasattr(driver.CUresult, f"CUDA_ERROR_{name}")] == []


@pytest.mark.skipif(has_driver(), reason="this machine has an NVIDIA driver, which would take these handles for real")
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("push", ()),
        ("pop", ()),
        ("release", ()),
        ("free_memory", ()),
        ("free", (64,)),
        ("allocate_host", (64,)),
        ("free_host", (64,)),
        ("create_stream", ()),
        ("destroy_stream", (64,)),
        ("synchronize_stream", (64,)),
        ("upload", (64, 128, 4, 8)),
        ("download", (64, 128, 4, 8)),
        ("copy", (64, 128, 4, 8)),
        ("create_event", (True,)),
        ("create_event", (False,)),
        ("destroy_event", (64,)),
        ("record", (64, 8)),
        ("wait", (8, 64)),
        ("synchronize_event", (64,)),
        ("milliseconds", (64, 128)),
        ("begin_capture", (8,)),
        ("end_capture", (8,)),
        ("abandon_capture", (8,)),
        ("launch_graph", (64, 8)),
        ("destroy_graph", (64,)),
        ("load_module", (b"image",)),
        ("unload_module", (64,)),
        ("function", (64, "scale_uint8")),
        ("launch", (64, (1, 1, 1), (256, 1, 1), 0, ScaleArguments(), 8)),
    ],
)
def test_the_bindings_take_what_the_adapter_gives_them(method: str, arguments: tuple[Any, ...]) -> None:
    pytest.importorskip("cuda.bindings.driver")
    adapter = cuda_python.CudaPython.__new__(cuda_python.CudaPython)
    adapter._cuda = cuda_python._bindings()
    adapter._device, adapter._context = adapter._cuda.CUdevice(0), adapter._cuda.CUcontext(64)
    with pytest.raises(
        BackendError, match="no NVIDIA driver"
    ):  # arguments are converted before the driver is looked for
        getattr(adapter, method)(*arguments)


class Answering:
    """A stand-in for cuda-python's bindings on a machine with one GPU, whose calls answer as they are told."""

    def __init__(self, **answers: tuple[Any, ...]) -> None:
        real = pytest.importorskip("cuda.bindings.driver")
        self.CUresult, self.CUdevice_attribute = real.CUresult, real.CUdevice_attribute
        ok = self.CUresult.CUDA_SUCCESS
        self._answers = {
            "cuInit": (ok,),
            "cuDeviceGetCount": (ok, 1),
            "cuDeviceGet": (ok, 0),
            "cuDeviceGetName": (ok, b"A GPU\0\0"),
            "cuDeviceGetAttribute": (ok, 8),
            "cuDeviceTotalMem": (ok, 8 << 30),
            "cuDriverGetVersion": (ok, 12060),
            "cuDevicePrimaryCtxRetain": (ok, 1),
            "cuCtxPushCurrent": (ok,),
            "cuCtxPopCurrent": (ok, 1),
            "cuMemGetInfo": (ok, 3 << 20, 8 << 30),
        } | answers

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: self._answers[name]


def answer(name: str, status: str) -> dict[str, tuple[Any, ...]]:
    driver = pytest.importorskip("cuda.bindings.driver")
    return {name: (getattr(driver.CUresult, f"CUDA_ERROR_{status}"), None)}


def open_answering(monkeypatch: pytest.MonkeyPatch, **answers: tuple[Any, ...]) -> Cuda:
    bindings = Answering(**answers)
    monkeypatch.setattr(cuda_python, "_bindings", lambda: bindings)
    return open_cuda("cuda-python")


def test_the_gpu_is_described_as_the_driver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = open_answering(monkeypatch).gpu
    assert (gpu.name, gpu.compute_capability, gpu.memory, gpu.cuda) == ("A GPU", (8, 8), 8 << 30, (12, 6))


@pytest.mark.parametrize(
    ("call", "status", "said"),
    [
        ("cuInit", "NO_DEVICE", r"CUDA says no device \(cuInit\). Is the GPU's driver loaded"),
        ("cuInit", "SYSTEM_DRIVER_MISMATCH", "restart the machine"),
        ("cuDevicePrimaryCtxRetain", "DEVICE_UNAVAILABLE", "Another process has the GPU to itself"),
    ],
)
def test_a_gpu_that_does_not_open_is_answered_in_one_line(monkeypatch, call: str, status: str, said: str) -> None:
    with pytest.raises(BackendError, match=said) as refusal:
        open_answering(monkeypatch, **answer(call, status))
    assert "\n" not in str(refusal.value)


def test_a_gpu_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    open_answering(monkeypatch)
    with pytest.raises(BackendError, match="There is no GPU 3: the driver lists 1"):
        open_cuda("cuda-python", 3)


def test_too_little_memory_is_answered_with_the_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = open_answering(monkeypatch, **answer("cuMemAlloc", "OUT_OF_MEMORY"))
    with pytest.raises(BackendError, match=r"16.0 MB were asked for, 3.0 MB are free. CUDA says out of memory"):
        cuda.device(16 << 20)


def test_a_call_that_the_driver_does_not_have_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> None:
        raise RuntimeError('Function "cuMemGetInfo_v2" not found')

    cuda = open_answering(monkeypatch)
    monkeypatch.setattr(cuda.driver, "_cuda", SimpleNamespace(cuMemGetInfo=missing, cuCtxPushCurrent=missing))
    with pytest.raises(BackendError, match="too old for this cuda-python"):
        cuda.free_memory()
