"""What an engine was made from and for: two keys that are equal mean the same engine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any

import msgspec

from fcn_edge.engine.machine import Machine
from fcn_edge.engine.profiles import Options, Profile
from fcn_edge.errors import BackendError, ModelError
from fcn_edge.files import sha256

GIB = 1 << 30
Product = Annotated[str, msgspec.Meta(pattern="^tensorrt(-rtx)?$")]
Dotted = Annotated[str, msgspec.Meta(pattern=r"^\d+(\.\d+)*$")]
NAMES = {  # of the fields, for people
    "onnx": "the ONNX file's content",
    "os": "system",
    "arch": "processor",
    "gpu": "GPU",
    "compute_capability": "compute capability",
    "sm_count": "multiprocessors",
    "l4t": "L4T",
}


@dataclass(frozen=True)
class Key:
    """Everything that decides which plan comes out of a build. Field by field in docs/tensorrt.md."""

    onnx: str  # SHA-256 of the ONNX file
    product: Product
    version: Dotted  # of the product
    os: str
    arch: str
    gpu: str | None = None  # this and the next three are null where `options.targets` are named instead
    compute_capability: Dotted | None = None
    sm_count: int | None = None
    memory: int | None = None  # GiB, rounded: drivers keep back a little more or less
    board: str | None = None  # Jetson
    l4t: str | None = None  # Jetson
    profiles: tuple[Profile, ...] = ()
    options: Options = field(default_factory=Options)

    def digest(self) -> str:
        """SHA-256 over all fields, in hexadecimal; its first 8 digits are in the plan's name."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()


def make_key(onnx: Path, machine: Machine, profiles: Sequence[Profile], options: Options) -> Key:
    """The key of the engine that `onnx` would become on `machine`.

    With `options.targets` (TensorRT-RTX, ahead of time) the machine's GPU does not count; without, there has to be one.
    Raises ModelError where the file cannot be read, BackendError where there is neither a GPU nor a target.
    """
    try:
        content = sha256(onnx)
    except OSError as error:
        raise ModelError(f"{onnx} cannot be read: {error.strerror}.") from error
    key = Key(
        onnx=content,
        product=machine.product,
        version=machine.version,
        os=machine.os,
        arch=machine.arch,
        profiles=tuple(profiles),
        options=options,
    )
    if options.targets:
        return key
    gpu = machine.gpu
    if gpu is None:
        raise BackendError(
            f"{machine.product} builds for the GPU that it finds, and CUDA shows none here. "
            "Look with fcn-edge doctor, or build where the engine will run."
        )
    return replace(
        key,
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
        sm_count=gpu.sm_count,
        memory=gibibytes(gpu.memory),
        board=machine.board,
        l4t=machine.l4t,
    )


def gibibytes(memory: int) -> int:
    return round(memory / GIB)


def difference(old: Key, new: Key) -> str:
    """In what the keys differ, on one line, the first being what was and the second what is; "" where in nothing."""
    return ", ".join(_differences(old, new))


def _differences(old: Any, new: Any) -> list[str]:
    found: list[str] = []
    for entry in fields(new):
        was, is_ = getattr(old, entry.name), getattr(new, entry.name)
        if was == is_:
            continue
        name = NAMES.get(entry.name, entry.name.replace("_", " "))
        if entry.name == "options":
            found += _differences(was, is_)
        elif entry.name == "onnx":
            found.append(name)  # two hashes would say no more
        else:
            found.append(f"{name} {_told(was)} -> {_told(is_)}")
    return found


def _told(value: Any) -> str:
    """A field's value for people."""
    if value is None:
        return "none"
    if isinstance(value, tuple | list):
        return "+".join(map(_told, value)) or "none"  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType]
    return shapes(value) if isinstance(value, Profile) else str(value)


def shapes(profile: Profile) -> str:
    """`288x512`, or `64x64..480x640..1088x1920` where it is dynamic."""
    sides = dict.fromkeys("x".join(map(str, shape)) for shape in (profile.min, profile.opt, profile.max))
    batch = "" if profile.batch == (1, 1, 1) else f" by {'..'.join(dict.fromkeys(map(str, profile.batch)))}"
    return "..".join(sides) + batch
