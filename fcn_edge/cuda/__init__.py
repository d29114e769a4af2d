"""CUDA without a compiler or a toolkit on the user's machine: memory, streams, graphs, and two kernels of our own."""

from __future__ import annotations

from fcn_edge.cuda.memory import Cuda

ADAPTERS = ("cuda-python", "pycuda")  # in the order in which they are tried


def open_cuda(adapter: str | None = None, index: int = 0) -> Cuda:
    """The GPU of that index. adapter: one of ADAPTERS; None: the first that is installed.

    Raises BackendError where no adapter is installed, there is no driver, or no such GPU.
    """
    raise NotImplementedError
