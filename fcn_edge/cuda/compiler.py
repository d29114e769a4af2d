"""CUDA C++ to machine code on the user's machine, by NVRTC: a library, no toolkit.

It makes a cubin for the GPU at hand and not PTX, because a driver takes PTX only from a CUDA that is no newer than
itself: JetPack 6's driver, of CUDA 12.6, would refuse that of a later 12.x, while cubins of all 12.x load (CUDA
Compatibility, "Minor Version Compatibility" and its limits). PTX is left for a GPU that NVRTC does not know yet.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from fcn_edge.errors import BackendError
from fcn_edge.files import replacing
from fcn_edge.folders import cache_folder

OPTIONS = (
    "--std=c++17",
    "--fmad=false",  # the labels are then, bit for bit, those of the same source on a CPU, which is what tests see
)
INSTALL = (
    "pip install 'fcn-edge[tensorrt]', or on a Jetson: sudo apt install cuda-nvrtc-12-6 with JetPack 6, "
    "cuda-nvrtc-13-2 with JetPack 7.2."
)
HASH = 32  # bytes


def compiled(source: str, name: str, compute_capability: tuple[int, int]) -> bytes:
    """`compile` of that source, from the cache where it has been compiled before.

    Raises BackendError as `compile` does. A cache that cannot be written or was cut off is passed over.
    """
    nvrtc = _nvrtc()
    version = _call(nvrtc, "nvrtcVersion")
    made_from = repr((source, OPTIONS, compute_capability, version))
    path = cache_folder() / "kernels" / f"{hashlib.sha256(made_from.encode()).hexdigest()[:32]}.bin"
    image = _read(path)
    if image is None:
        image = compile(source, name, compute_capability)
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as temporary:
                temporary.write_bytes(hashlib.sha256(image).digest() + image)
    return image


def compile(source: str, name: str, compute_capability: tuple[int, int]) -> bytes:
    """A cubin for that GPU, or PTX where NVRTC is older than the GPU.

    Raises BackendError where NVRTC is missing, the GPU is too old for it, or the source has an error.
    """
    nvrtc = _nvrtc()
    kind, architecture = _architecture(nvrtc, compute_capability)
    options = [option.encode() for option in (f"--gpu-architecture={architecture}", *OPTIONS)]
    program = _call(nvrtc, "nvrtcCreateProgram", source.encode(), name.encode(), 0, [], [])
    try:
        status = nvrtc.nvrtcCompileProgram(program, len(options), options)[0]
        if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
            log = _read_out(nvrtc, program, "ProgramLog").rstrip(b"\0").decode(errors="replace")
            raise BackendError(f"NVRTC does not compile {name} for {architecture}: {' '.join(log.split())}")
        return _read_out(nvrtc, program, kind)
    finally:
        _call(nvrtc, "nvrtcDestroyProgram", program)


def version() -> str:
    """NVRTC's, as "13.5". Raises BackendError where it is missing."""
    return ".".join(map(str, _call(_nvrtc(), "nvrtcVersion")))


def _architecture(nvrtc: Any, compute_capability: tuple[int, int]) -> tuple[str, str]:
    """Which output to ask for, and its architecture."""
    wanted = 10 * compute_capability[0] + compute_capability[1]
    known = sorted(_call(nvrtc, "nvrtcGetSupportedArchs"))
    if wanted in known:
        return "CUBIN", f"sm_{wanted}"
    older = [one for one in known if one < wanted]
    if not older:
        raise BackendError(
            f"NVRTC {version()} compiles for compute capability {known[0] / 10} and later, this GPU has "
            f"{wanted / 10}. Install an older one: pip install 'nvidia-cuda-nvrtc-cu12==12.6.*'"
        )
    return "PTX", f"compute_{older[-1]}"  # the driver compiles it for the newer GPU when it loads it


def _nvrtc() -> Any:
    try:
        nvrtc = import_module("cuda.bindings.nvrtc")
        nvrtc.nvrtcVersion()  # it loads the library at the first call
    except ImportError as error:
        raise BackendError(f"cuda-python is not installed, which compiles the GPU's kernels: {INSTALL}") from error
    except RuntimeError as error:
        raise BackendError(f"NVRTC, which compiles the GPU's kernels, is not installed: {INSTALL}") from error
    return nvrtc


def _call(nvrtc: Any, name: str, *arguments: Any) -> Any:
    """What the function gives back behind its status; a tuple where that is several things."""
    status, *values = getattr(nvrtc, name)(*arguments)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise BackendError(f"{name} failed: {status.name}. Install NVRTC anew: {INSTALL}")
    return values[0] if len(values) == 1 else tuple(values)


def _read_out(nvrtc: Any, program: Any, what: str) -> bytes:
    buffer = bytes(_call(nvrtc, f"nvrtcGet{what}Size", program))
    _call(nvrtc, f"nvrtcGet{what}", program, buffer)  # fills the bytes that it is given
    return buffer


def _read(path: Path) -> bytes | None:
    """What was cached, if it is there and whole."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    image = content[HASH:]
    return image if hashlib.sha256(image).digest() == content[:HASH] else None
