"""What a plan's first bytes say, read before any library sees the file.

TensorRT's plans, of 8.6 and 10 at least, begin with "ftrt", then four bytes of the header's own version, 0, and have
their TensorRT version as one byte a part at 24 to 27: so trtexec's `--getPlanVersionOnly` reads them (samples/common/
sampleEngines.cpp and its maker's answer in NVIDIA/TensorRT#3073). TensorRT-RTX's begin with "vtrt" and have the
same version at the same place, and at 16 their own size, which tells a file that was cut off (seen in plans of 1.7.1).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn_edge.errors import ModelError

MAGIC = {b"ftrt": "tensorrt", b"vtrt": "tensorrt-rtx"}
VERSION = slice(24, 28)
SIZE = slice(16, 24)  # TensorRT-RTX
LENGTH = 28


@dataclass(frozen=True)
class Header:
    """What the plan's own first bytes say."""

    product: str
    version: str | None  # "10.3.0.30"; None where the header is of a kind that is not known


def read_header(plan: Path, rebuild: str = "fcn-edge build MODEL.onnx") -> Header:
    """The header of `plan`. Raises ModelError, on one line, where it is no plan or only the beginning of one.

    rebuild: the command that the line ends with.
    """
    try:
        with plan.open("rb") as file:
            start = file.read(LENGTH)
        size = plan.stat().st_size
    except OSError as error:
        raise ModelError(f"{plan} cannot be read: {error.strerror}.") from error
    again = f"Copy it again, or rebuild: {rebuild}"
    product = MAGIC.get(start[:4])
    if product is None:
        raise ModelError(f"{plan} is no TensorRT engine: {_beginning(start)} {again}")
    if len(start) < LENGTH:
        raise ModelError(f"{plan} is cut off: it has {size} bytes, which is not even a header. {again}")
    if start[4:8] != bytes(4):
        return Header(product, None)
    whole = int.from_bytes(start[SIZE], "little")
    if product == "tensorrt-rtx" and size < whole:
        raise ModelError(f"{plan} is cut off: it has {size} of its {whole} bytes. {again}")
    return Header(product, ".".join(str(part) for part in start[VERSION]))


def _beginning(start: bytes) -> str:
    if not start:
        return "it is empty."
    glued = int.from_bytes(start[:4], "little")
    if start[4:5] == b"{" and glued < 1 << 20:
        return f"{glued} bytes of JSON stand before one."
    return f"it begins with {start[:4]!r}, an engine with {' or '.join(repr(magic) for magic in MAGIC)}."
