"""What an engine says of itself: a JSON file beside the plan, named as the plan with `.json` after it.

The plan stays what TensorRT wrote, so that trtexec and Triton load it. A plan that does not fit its TensorRT or GPU
ends in a message that says little, or in a crash of the process, so whatever can be known is held against this machine
before the library sees a byte of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from fcn_edge.engine.header import Header, read_header
from fcn_edge.engine.key import Key, gibibytes
from fcn_edge.engine.machine import Gpu, Machine
from fcn_edge.engine.profiles import Profile
from fcn_edge.engine.versions import PRODUCTS, runs_compatible
from fcn_edge.errors import BackendError, ModelError, SpecError
from fcn_edge.files import replacing, sha256
from fcn_edge.spec import ModelSpec

SCHEMA = 1
AMPERE = (8, 0)  # the first compute capability that the builder's `ampere_plus` serves


class Achieved(msgspec.Struct, frozen=True, kw_only=True):
    """Types that were counted: on the network that was parsed, and on the engine that came of it."""

    network: dict[str, int]  # multiplying layers of the parsed network by type: {"fp16": 61, "fp32": 5}
    achieved: dict[str, int] | None = None  # those of the engine, by its inspector, once for each profile
    reason: str | None = None  # why `achieved` is null


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """Everything about a plan that is not in it. Field by field in docs/tensorrt.md."""

    schema: int = SCHEMA
    fcn_edge: str  # version that built it
    spec: ModelSpec
    source: str  # the ONNX file, as the build was told
    rebuild: str  # the command line that builds it again
    key: Key
    precision: Achieved
    built: str  # UTC: "2026-11-21T19:30:00Z"
    seconds: float  # that the build took
    bytes: int  # of the plan
    sha256: str  # of the plan
    activation_bytes: int | None = None  # device memory of an execution context; null until the engine was loaded

    @property
    def profiles(self) -> tuple[Profile, ...]:
        return self.key.profiles


class _Head(msgspec.Struct):
    """As much of any sidecar, however new, as says whether it can be read."""

    schema: int


def sidecar_path(plan: Path) -> Path:
    """`model.plan.json` for `model.plan`."""
    return plan.with_name(f"{plan.name}.json")


def read(plan: Path) -> Sidecar:
    """The sidecar of `plan`. Raises ModelError where either is missing, it is no sidecar, or of a newer schema."""
    path = sidecar_path(plan)
    try:
        text = path.read_bytes()
    except FileNotFoundError as error:
        header = read_header(plan)  # a file that is no plan at all is told so first
        raise ModelError(
            f"{plan} ({_titled(header)}) has no {path.name} beside it, which says what it is. "
            "Copy that too, or rebuild: fcn-edge build MODEL.onnx"
        ) from error
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    return decode(text, path)


def decode(text: bytes, path: Path) -> Sidecar:
    """The sidecar in `text`; `path` names the file in errors. Raises ModelError, or SpecError for its spec."""
    try:
        schema = msgspec.json.decode(text, type=_Head).schema
        if schema > SCHEMA:
            raise ModelError(
                f"{path} has schema {schema}, this fcn-edge reads up to {SCHEMA}. Upgrade fcn-edge, or rebuild: "
                "fcn-edge build MODEL.onnx"
            )
        return msgspec.json.decode(text, type=Sidecar)
    except SpecError as error:  # it knows the model's name, not the file's
        raise SpecError(f"{path}: {error}") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ModelError(
            f"{path} is no sidecar of an engine: {error}. Copy it again, or rebuild: fcn-edge build MODEL.onnx"
        ) from error


def write(plan: Path, sidecar: Sidecar) -> None:
    """Write the sidecar of `plan`, all at once. Raises OSError."""
    with replacing(sidecar_path(plan)) as temporary:
        temporary.write_bytes(msgspec.json.format(msgspec.json.encode(sidecar), indent=2) + b"\n")


def check(sidecar: Sidecar, machine: Machine, plan: Path) -> None:
    """Raises, on one line with the command that rebuilds, unless `plan` can be loaded on `machine`.

    Looked at in this order: whether the plan is the sidecar's (size, SHA-256; else its header says what it is), then
    product, version, system, GPU or targets, and a Jetson's board and L4T release.
    ModelError where something does not fit, BackendError where CUDA shows no GPU.
    """
    check_whole(sidecar, plan)
    if machine.product != sidecar.key.product:
        raise ModelError(
            f"{plan} is an engine of {sidecar.key.product}, not of {machine.product}. "
            f"Run it with --backend {sidecar.key.product}, or rebuild: {_rebuild(sidecar, machine.product)}"
        )
    if machine.gpu is None:
        raise BackendError(f"{plan} needs an NVIDIA GPU, and CUDA shows none here. Look with fcn-edge doctor.")
    for built, here in _claims(sidecar.key, machine, machine.gpu):
        if built != here:
            raise ModelError(f"{plan} was built for {built}, this machine has {here}. Rebuild: {sidecar.rebuild}")


def check_whole(sidecar: Sidecar, plan: Path) -> None:
    """Raises ModelError unless `plan` is byte for byte the plan that `sidecar` describes.

    Where it is, its header is not asked: a later TensorRT may write another, and what it built is still its own.
    """
    if _is_described(sidecar, plan):
        return
    header, size = read_header(plan, sidecar.rebuild), plan.stat().st_size
    if size < sidecar.bytes:
        raise ModelError(
            f"{plan} is cut off: it has {size} of the {sidecar.bytes} bytes in {sidecar_path(plan).name}. "
            f"Copy both again, or rebuild: {sidecar.rebuild}"
        )
    raise ModelError(
        f"{plan} ({_titled(header)}) is not the engine that {sidecar_path(plan).name} describes: their SHA-256 differ. "
        f"Copy both again, or rebuild: {sidecar.rebuild}"
    )


def _is_described(sidecar: Sidecar, plan: Path) -> bool:
    try:
        return plan.stat().st_size == sidecar.bytes and sha256(plan) == sidecar.sha256
    except OSError:
        return False


def _claims(key: Key, machine: Machine, gpu: Gpu) -> Iterator[tuple[str, str]]:
    """What the engine was built for beside what this machine has, the weightiest first; alike where it fits."""
    options = key.options
    versions = _numbers(key.version), _numbers(machine.version)
    if not (options.version_compatible and runs_compatible(*versions)):
        yield f"{key.product} {key.version}", f"{machine.product} {machine.version}"
    yield f"{key.arch} processors", f"{machine.arch} processors"
    capability = f"compute capability {gpu.compute_capability}"
    if options.targets:  # these hold on Linux and on Windows, and for every GPU of the capability
        fits = gpu.compute_capability in options.targets
        yield capability if fits else f"compute capability {' or '.join(options.targets)}", capability
        return
    yield key.os, machine.os
    if options.hardware_compatible == "ampere_plus" and _numbers(gpu.compute_capability) >= AMPERE:
        return
    yield f"compute capability {key.compute_capability}", capability
    if options.hardware_compatible == "same_compute_capability":
        return
    yield f"the board {key.board}", f"the board {machine.board}"
    yield f"L4T {key.l4t}", f"L4T {machine.l4t}"
    yield f"the GPU {key.gpu}", f"the GPU {gpu.name}"
    yield f"{key.sm_count} multiprocessors", f"{gpu.sm_count} multiprocessors"
    yield f"{key.memory} GiB of GPU memory", f"{gibibytes(gpu.memory)} GiB of GPU memory"


def _rebuild(sidecar: Sidecar, product: str) -> str:
    return f"fcn-edge build {sidecar.source} --backend {product}"


def _titled(header: Header) -> str:
    title = PRODUCTS[header.product].title
    return f"{title} {header.version}" if header.version else title


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
