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
    EOFError,  # a cache file was cut off, as a power failure leaves it; so are the next two
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
        for way in (_cached, _cached_anew):
            try:
                return way(function, signature)
            except _CACHE_FAILURES:
                continue
        return numba.njit(signature, **_OPTIONS)(function)  # type: ignore[return-value]

    return compile_


_OPTIONS: Any = {"nogil": True, "error_model": "numpy"}  # "numpy": no test for division by zero


def _cached(function: Any, signature: Any) -> Any:
    return numba.njit(signature, cache=True, **_OPTIONS)(function)


def _cached_anew(function: Any, signature: Any) -> Any:
    """Where the cache is broken: numba would neither read it nor write it again."""
    compiled = numba.njit(cache=True, **_OPTIONS)(function)
    compiled.recompile()  # nothing is compiled yet, so this only empties the cache
    compiled.compile(signature)
    compiled.disable_compile()
    return compiled
