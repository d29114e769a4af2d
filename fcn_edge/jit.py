"""How the hot loops are compiled: when their module is imported, once a machine.

The machine code is cached beside the package, or under the user's cache folder where the package is
read-only, or in NUMBA_CACHE_DIR. Kernels name their argument types, so nothing compiles at a first frame.
They hold no Python lock and start no threads: numba's default thread pool aborts the process when two
threads enter it, and the loops here are short enough without.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any, TypeVar

import numba
from numba import types

Kernel = TypeVar("Kernel", bound=Callable[..., Any])

_CACHE_FAILURES = (
    RuntimeError,  # numba: "no locator available": neither the package nor the home folder can be written
    OSError,  # the disk is full
    EOFError,  # a cache file was cut off, as a power failure leaves it
    pickle.UnpicklingError,
    ValueError,
)


def readable(dtype: types.Type, ndim: int) -> types.Array:
    """The type of a C-contiguous array that a kernel only reads; it takes read-only and writable ones."""
    return types.Array(dtype, ndim, "C", readonly=True)


def writable(dtype: types.Type, ndim: int) -> types.Array:
    """The type of a C-contiguous array that a kernel writes."""
    return types.Array(dtype, ndim, "C")


def kernel(signature: Any) -> Callable[[Kernel], Kernel]:
    """Compile a function for this one signature, from the cache where it can be had."""

    def compile_(function: Kernel) -> Kernel:
        options = {"nogil": True, "error_model": "numpy"}  # "numpy": no test for division by zero
        try:
            return numba.njit(signature, cache=True, **options)(function)  # type: ignore[return-value]
        except _CACHE_FAILURES:
            return numba.njit(signature, **options)(function)  # type: ignore[return-value]

    return compile_
