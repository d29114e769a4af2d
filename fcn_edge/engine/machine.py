"""What an engine is bound to: the GPU, the board, the system and the TensorRT of one machine.

The GPU is asked through the driver's own library, which every machine with an NVIDIA driver has: nvidia-smi counts no
multiprocessors and is not on every Jetson, and an engine has to be held against this before anything else is loaded.
All Orin boards call their GPU "Orin" with compute capability 8.7, so on a Jetson the board's name counts too.
"""

from __future__ import annotations

import ctypes
import platform
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcn_edge.errors import unknown

DRIVER_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
MULTIPROCESSORS, MAJOR, MINOR = 16, 75, 76  # CUdevice_attribute in cuda.h
FIRST_OF_ALL_TARGETS = (8, 0)  # TensorRT-RTX serves Turing, 7.5, only where it is named ("CPU-Only AOT" in its guide)
ROOT = Path("/")


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
class Jetson:
    board: str | None  # as the device tree names it; None in a container that hides it
    l4t: str | None  # release of Jetson Linux: "36.4.3"


@dataclass(frozen=True)
class Machine:
    """What a plan needs of the machine that it runs on."""

    product: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # of that product here: "10.3.0"
    os: str  # "linux", "windows"
    arch: str  # "x86_64", "aarch64"
    gpu: Gpu | None
    board: str | None = None  # a Jetson's model, as its device tree names it
    l4t: str | None = None  # release of Jetson Linux: "36.4.3"


def this_machine(product: str) -> Machine:
    """This machine as far as `product` is concerned.

    Raises BackendError with the line that installs it where the product is not there. No GPU is no error.
    """
    from fcn_edge.engine.versions import load

    version = ".".join(map(str, load(product).version))
    jetson = find_jetson()
    return Machine(
        product=product,
        version=version,
        os=platform.system().lower(),
        arch=arch(platform.machine()),
        gpu=find_gpu(),
        board=jetson.board if jetson else None,
        l4t=jetson.l4t if jetson else None,
    )


def arch(machine: str) -> str:
    """The processor's family under one name: Windows says AMD64 and ARM64."""
    return {"amd64": "x86_64", "arm64": "aarch64"}.get(machine.lower(), machine.lower())


def find_gpu() -> Gpu | None:
    """The first GPU of the driver; None where there is no driver or no GPU. Never raises."""
    try:
        return ask_driver(ctypes.CDLL(DRIVER_LIBRARY), read_driver_version())
    except OSError:  # no such library, or one that wants others that are not there
        return None


def ask_driver(cuda: Any, driver: str | None) -> Gpu | None:
    """The first GPU that this driver library tells of; None where it tells of none."""
    device, count, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name, memory = ctypes.create_string_buffer(256), ctypes.c_size_t()

    def attribute(which: int) -> int:
        return value.value if cuda.cuDeviceGetAttribute(ctypes.byref(value), which, device) == 0 else 0

    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return None
    if cuda.cuDeviceGet(ctypes.byref(device), 0) or cuda.cuDeviceGetName(name, len(name), device):
        return None
    if cuda.cuDeviceTotalMem_v2(ctypes.byref(memory), device) or cuda.cuDriverGetVersion(ctypes.byref(count)):
        return None
    return Gpu(
        name=name.value.decode(errors="replace"),
        compute_capability=f"{attribute(MAJOR)}.{attribute(MINOR)}",
        sm_count=attribute(MULTIPROCESSORS),
        memory=memory.value,
        driver=driver,
        cuda=f"{count.value // 1000}.{count.value % 1000 // 10}",
    )


def read_driver_version(root: Path = ROOT) -> str | None:
    """The kernel driver's release; None where there is none or it is not Linux's."""
    text = _read(root / "proc/driver/nvidia/version")
    return parse_driver_version(text) if text else None


def parse_driver_version(text: str) -> str | None:
    """The release in /proc/driver/nvidia/version: "535.129.03"."""
    match = re.search(r"^NVRM version:.*?\s(\d+(?:\.\d+)+)\s", text, re.MULTILINE)
    return match.group(1) if match else None


def find_jetson(root: Path = ROOT) -> Jetson | None:
    """Board and release of Jetson Linux; None elsewhere."""
    release = _read(root / "etc/nv_tegra_release")
    # Other boards have a device tree too; NVIDIA's names its chip: "nvidia,p3768-0000+p3767-0005", "nvidia,tegra234".
    jetson = "nvidia,tegra" in (_read(root / "proc/device-tree/compatible") or "")
    if release is None and not jetson:
        return None
    board = _read(root / "proc/device-tree/model") if jetson else None
    return Jetson(board=board.strip("\0\n ") if board else None, l4t=parse_l4t(release) if release else None)


def parse_l4t(text: str) -> str | None:
    """The release in /etc/nv_tegra_release: "36.4.3"."""
    match = re.search(r"^# R(\d+) \(release\), REVISION: (\d+(?:\.\d+)*)", text, re.MULTILINE)
    return f"{match.group(1)}.{match.group(2)}" if match else None


def targets(known: Sequence[str], asked: Sequence[str] = (), gpu: Gpu | None = None) -> tuple[str, ...]:
    """The compute capabilities that a TensorRT-RTX plan is built for, ahead of time: ("8.0", "8.6", ...).

    known: all that this TensorRT-RTX can name; asked: what the user wants, else all known from 8.0 on, and the GPU's
    own. Raises UsageError for one that is not known.
    """
    for target in asked:
        if target not in known:
            raise unknown("compute capability of TensorRT-RTX", target, known)
    own = gpu.compute_capability if gpu else None
    chosen = asked or [target for target in known if _numbers(target) >= FIRST_OF_ALL_TARGETS or target == own]
    return tuple(sorted(set(chosen), key=_numbers))


def _numbers(dotted: str) -> tuple[int, ...]:
    return tuple(int(part) for part in dotted.split("."))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return None
