"""CUDA without a compiler or a toolkit on the user's machine: memory, streams, graphs, and two kernels of our own."""

from __future__ import annotations

from importlib.util import find_spec

from fcn_edge.cuda.memory import Cuda, Driver
from fcn_edge.errors import unknown

ADAPTERS = ("cuda-python", "pycuda")  # in the order in which they are tried


def open_cuda(adapter: str | None = None, index: int = 0) -> Cuda:
    """The GPU of that index. adapter: one of ADAPTERS; None: the first that is installed.

    Raises BackendError where no adapter is installed, there is no driver, or no such GPU; UsageError for an unknown
    adapter.
    """
    if adapter is not None and adapter not in ADAPTERS:
        raise unknown("CUDA adapter", adapter, ADAPTERS)
    if adapter is None:
        adapter = "pycuda" if find_spec("pycuda") and not _has_bindings() else "cuda-python"
    return Cuda(_driver(adapter, index))


def _has_bindings() -> bool:
    """A folder or package called `cuda` alone proves nothing: other packages of NVIDIA's share the name."""
    return find_spec("cuda") is not None and find_spec("cuda.bindings") is not None


def _driver(adapter: str, index: int) -> Driver:
    if adapter == "pycuda":
        from fcn_edge.cuda.pycuda import PyCuda

        return PyCuda(index)
    from fcn_edge.cuda.cuda_python import CudaPython

    return CudaPython(index)
