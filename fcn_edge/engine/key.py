"""What an engine was made from and for: two keys that are equal mean the same engine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcn_edge.engine.machine import Machine
from fcn_edge.engine.profiles import Options, Profile


@dataclass(frozen=True)
class Key:
    """Everything that decides which plan comes out of a build. Field by field in docs/tensorrt.md."""

    onnx: str  # SHA-256 of the ONNX file
    product: str  # "tensorrt" or "tensorrt-rtx"
    version: str  # of the product
    os: str
    arch: str
    gpu: str | None = None  # this and the next three are null where `options.targets` are named instead
    compute_capability: str | None = None
    sm_count: int | None = None
    memory: int | None = None  # GiB, rounded: drivers keep back a little more or less
    board: str | None = None  # Jetson
    l4t: str | None = None  # Jetson
    profiles: tuple[Profile, ...] = ()
    options: Options = Options()

    def digest(self) -> str:
        """SHA-256 over all fields, in hexadecimal; its first 8 digits are in the plan's name."""
        raise NotImplementedError


def make_key(onnx: Path, machine: Machine, profiles: Sequence[Profile], options: Options) -> Key:
    """The key of the engine that `onnx` would become on `machine`.

    With `options.targets` (TensorRT-RTX, ahead of time) the machine's GPU does not count; without, there has to be one.
    Raises ModelError where the file cannot be read, BackendError where there is neither a GPU nor a target.
    """
    raise NotImplementedError


def difference(old: Key, new: Key) -> str:
    """In what the keys differ, on one line, the first being what was and the second what is; "" where in nothing."""
    raise NotImplementedError
