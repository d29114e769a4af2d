"""What a capturing process and the one that started it say to each other: JSON lines, and pixels in shared memory.

Three slots hold pictures. The capturing process writes into those that it owns and names one at a time;
whoever takes the picture gives the slot back. So no slot is ever read and written at once, and a reader
that is late costs pictures, never time.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np

from fcn_edge.video.options import SourceOptions

SLOTS = 3  # one being written, the newest, and one being read


class Request(msgspec.Struct):
    """The first line to a capturing process; every further one is the number of a slot that is free again.

    It goes through a pipe because what stands on a command line can be read by everybody on the machine.
    """

    kind: str
    target: str
    options: SourceOptions
    slots: list[int]  # file descriptors of the slots


class Opened(msgspec.Struct, tag="opened"):
    rate: Fraction | None
    pixel_aspect: Fraction
    notes: list[str]


class Delivered(msgspec.Struct, tag="delivered"):
    """A picture in a slot. lost: pictures before it for which no slot was free."""

    slot: int
    height: int
    width: int
    captured: float
    lost: int


class Ended(msgspec.Struct, tag="ended"):
    """There are no more pictures, and that is no fault."""


class Failed(msgspec.Struct, tag="failed"):
    message: str


Message = Opened | Delivered | Ended | Failed


def encode(message: Any) -> bytes:
    return msgspec.json.encode(message, enc_hook=str) + b"\n"


def decode(line: bytes, kind: Any) -> Any:
    """Raises msgspec.DecodeError."""
    return msgspec.json.decode(line, type=kind, dec_hook=lambda wanted, value: wanted(value))


class Slot:
    """Memory that two processes share, as large as the largest picture that was put into it."""

    def __init__(self, handle: int | None = None) -> None:
        self.handle = _anonymous_file() if handle is None else handle
        self._memory: mmap.mmap | None = None

    def view(self, height: int, width: int) -> np.ndarray:
        """The slot as uint8 (height, width, 3)."""
        size = height * width * 3
        if self._memory is None or len(self._memory) < size:
            if os.fstat(self.handle).st_size < size:
                os.ftruncate(self.handle, size)
            self._memory = mmap.mmap(self.handle, size)  # the one before goes with the last array that shows it
        return np.frombuffer(self._memory, np.uint8, size).reshape(height, width, 3)

    def close(self) -> None:
        """Views stay good."""
        os.close(self.handle)


def _anonymous_file() -> int:
    """A file without a name: it is gone with the last process that has it, however that one ends."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("fcn-edge")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
