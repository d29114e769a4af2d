"""Which TensorRT is there, and every difference between its versions: the one file that compares them.

An importable `tensorrt` proves nothing: packages of that name exist that hold no library at all, so it counts
from where it has a Builder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Version = tuple[int, ...]


@dataclass(frozen=True)
class Product:
    """One of NVIDIA's two builders. Their engines are not each other's."""

    name: str
    module: str
    oldest: Version


PRODUCTS = {
    "tensorrt": Product("tensorrt", "tensorrt", (8, 6)),
    "tensorrt-rtx": Product("tensorrt-rtx", "tensorrt_rtx", (1, 4)),
}


@dataclass(frozen=True)
class Trt:
    """A TensorRT that was loaded."""

    product: str
    module: Any
    version: Version  # (10, 3, 0) or (1, 7, 1, 116)


def load(product: str) -> Trt:
    """The product's Python module, usable: it has a Builder and is not too old.

    Raises UsageError for an unknown product, BackendError with the line that installs it on this platform.
    """
    raise NotImplementedError
