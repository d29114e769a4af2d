"""What an engine is bound to: the GPU, the board, the system and the TensorRT of one machine.

The GPU is asked through the driver's own library, which every machine with an NVIDIA driver has: nvidia-smi counts no
multiprocessors and is not on every Jetson, and an engine has to be held against this before anything else is loaded.
All Orin boards call their GPU "Orin" with compute capability 8.7, so on a Jetson the board's name counts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Gpu:
    """The first GPU that CUDA shows to this process."""

    name: str
    compute_capability: str  # "8.7"
    sm_count: int
    memory: int  # bytes
    driver: str | None  # "580.65.06"; None where only CUDA's version is told
    cuda: str  # the newest CUDA that the driver serves: "13.0"


@dataclass(frozen=True)
class Machine:
    """What a plan needs of the machine that it runs on."""

    product: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # of that product here: "10.3.0.30"
    os: str  # "linux", "windows"
    arch: str  # "x86_64", "aarch64"
    gpu: Gpu | None
    board: str | None  # a Jetson's model, as its device tree names it
    l4t: str | None  # Jetson Linux: "36.4.3"


def this_machine(product: str) -> Machine:
    """This machine as far as `product` is concerned.

    Raises BackendError with the line that installs it where the product is not there. No GPU is no error.
    """
    raise NotImplementedError


def find_gpu() -> Gpu | None:
    """The first GPU of the driver; None where there is no driver or no GPU. Never raises."""
    raise NotImplementedError


def targets(known: Sequence[str], asked: Sequence[str] = (), gpu: Gpu | None = None) -> tuple[str, ...]:
    """The compute capabilities that a TensorRT-RTX plan is built for, ahead of time: ("8.0", "8.6", ...).

    known: all that this TensorRT-RTX can name; asked: what the user wants, else all known from 8.0 on, and the GPU's
    own. Raises UsageError for one that is not known.
    """
    raise NotImplementedError
