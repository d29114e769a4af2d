"""The shapes that an engine takes, the options that it is built with, and the boards that it is built for.

A static profile per network size is the default: a camera has one size, a graph can be captured of it, and kernels are
chosen for just it. Activation memory follows the largest shape, so a wide dynamic range costs a small board most.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import msgspec

from fcn_edge.engine.machine import Machine
from fcn_edge.errors import BackendError, UsageError, unknown
from fcn_edge.resources import folder
from fcn_edge.spec import ModelSpec

Shape = tuple[int, int]  # rows, columns of a frame at the network's size
Compatible = Literal["ampere_plus", "same_compute_capability"]

MIB = 1 << 20
CAMERAS = ((720, 1280), (960, 1280), (960, 960))  # 16:9, 4:3, 1:1; their portraits too
WRITTEN_FOR = {  # device profiles, by words in the name of a Jetson's board, elsewhere in that of the GPU
    "orin-nano": r"Orin Nano",
    "orin-nx": r"Orin NX",
    "agx-orin": r"AGX Orin",
    "thor": r"\bThor\b",
    "data-centre": r"^(?!.*RTX).*\b(Tesla|[ABHL]\d{1,3}[GS]?|G[BH][23]00)\b",  # RTX A400 is a workstation's
    "rtx-desktop": r"\bRTX\b",
}
COSTS = {  # of what buys something else than speed, by NVIDIA's documents (HardwareCompatibilityLevel, BuilderFlag)
    "ampere_plus": "one engine for all GPUs from Ampere on: shared memory is held to 48 KiB, some fusions and all "
    "tactics of cuDNN and cuBLAS are left out, so it is slower than one built for its GPU",
    "same_compute_capability": "one engine for all GPUs of this compute capability: it may be slower than one built "
    "for its GPU",
    "version_compatible": "the engine loads in newer TensorRT too: it carries a lean runtime, is slower, and whoever "
    "loads it has to allow code from the plan to run",
    "tf32": "float32 products keep 10 of 23 bits of their mantissa: faster from Ampere on, and no longer float32",
}


@dataclass(frozen=True)
class Profile:
    """The frames that one optimisation profile takes, from `min` to `max`; its kernels are chosen for `opt`."""

    min: Shape
    opt: Shape
    max: Shape
    batch: tuple[int, int, int] = (1, 1, 1)  # frames at once, likewise

    @property
    def static(self) -> bool:
        return self.min == self.max and self.batch[0] == self.batch[2]

    def takes(self, shape: Shape, batch: int = 1) -> bool:
        """Whether `batch` frames of that size are within it."""
        sides = zip(self.min, shape, self.max, strict=True)
        return self.batch[0] <= batch <= self.batch[2] and all(low <= side <= high for low, side, high in sides)

    def __str__(self) -> str:
        """289x513, or 65x65 to 513x513, best at 289x513; of 1 to 4 frames where that is not 1."""
        sides = "x".join(map(str, self.min))
        if self.min != self.max:
            sides += f" to {'x'.join(map(str, self.max))}, best at {'x'.join(map(str, self.opt))}"
        least, _, most = self.batch
        return (
            sides if most == 1 else f"{sides}, {least} to {most} frames" if least < most else f"{sides}, {most} frames"
        )


@dataclass(frozen=True)
class Options:
    """What a builder is told besides shapes; precision is the ONNX file's. All of it is part of an engine's key."""

    workspace: int | None = None  # bytes of scratch memory that a layer may take; None: all that the device has
    level: int | None = None  # builder optimisation level, 0 to 5; None: TensorRT's own, 3
    tf32: bool = False  # float32 in TF32 where the GPU has it; TensorRT's own default is True
    dla_core: int | None = None  # None: the GPU
    hardware_compatible: Compatible | None = None  # None: this GPU alone
    version_compatible: bool = False  # loads in newer versions too
    targets: tuple[str, ...] = ()  # TensorRT-RTX, ahead of time: compute capabilities as in "8.9"


class Device(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A device profile, engines/NAME.toml: what is worth telling the builder on a kind of machine."""

    about: str
    backend: Literal["tensorrt", "tensorrt-rtx"]
    power: str | None = None  # what to do before a measurement, or clocks are not what the board can
    workspace_mib: int | None = None
    level: int | None = None
    tf32: bool = False
    dla_core: int | None = None
    hardware_compatible: Compatible | None = None
    version_compatible: bool = False
    targets: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()  # "288x512": a static profile each; empty: what the default is
    batch: tuple[int, int, int] = (1, 1, 1)

    @property
    def options(self) -> Options:
        return Options(
            workspace=None if self.workspace_mib is None else self.workspace_mib * MIB,
            level=self.level,
            tf32=self.tf32,
            dla_core=self.dla_core,
            hardware_compatible=self.hardware_compatible,
            version_compatible=self.version_compatible,
            targets=self.targets,
        )


def default_profiles(spec: ModelSpec, batch: tuple[int, int, int] = (1, 1, 1)) -> list[Profile]:
    """A static profile for each network size that the spec makes of 16:9, 4:3 and 1:1 frames and their portraits.

    Raises UsageError for `native`, where the camera alone decides.
    """
    if spec.resize == "native":
        raise UsageError(
            f"{spec.name} takes frames at their own size: name those of your camera, as in --shapes 736x1280."
        )
    frames = [size for height, width in CAMERAS for size in ((height, width), (width, height))]
    from fcn_edge.prepare import lay_out  # loads numba, which reading a sidecar does not need

    return static_profiles(dict.fromkeys(lay_out(spec, frame, spec.resize, None).network for frame in frames), batch)


def static_profiles(shapes: Iterable[Shape], batch: tuple[int, int, int] = (1, 1, 1)) -> list[Profile]:
    """One static profile a shape."""
    return [Profile(shape, shape, shape, batch) for shape in dict.fromkeys(shapes)]


def allowed(spec: ModelSpec, shape: Shape) -> Shape:
    """The network size nearest to `shape` whose sides the spec allows."""
    return spec.side(shape[0]), spec.side(shape[1])


def sides_told(spec: ModelSpec) -> str:
    """Which sides the spec allows, for people: "k*32+1"."""
    return spec.sides.replace("stride", str(spec.stride))


def check_profiles(spec: ModelSpec, profiles: Sequence[Profile]) -> None:
    """Raises UsageError unless each profile is a range, upwards, of sides that the spec allows."""
    if not profiles:
        raise UsageError("an engine needs at least one profile.")
    for profile in profiles:
        for low, best, high in (*zip(profile.min, profile.opt, profile.max, strict=True), profile.batch):
            if not 1 <= low <= best <= high:
                smallest, usual, largest = ("x".join(map(str, s)) for s in (profile.min, profile.opt, profile.max))
                raise UsageError(
                    f"a profile goes from its least over its best to its largest: min {smallest}, opt {usual}, max "
                    f"{largest}, batch {'-'.join(map(str, profile.batch))} does not. Put them in that order."
                )
        for shape in (profile.min, profile.opt, profile.max):
            near = allowed(spec, shape)
            if near != shape:
                raise UsageError(
                    f"{spec.name} takes sides of {sides_told(spec)}, which {shape[0]}x{shape[1]} has not. "
                    f"The nearest: {near[0]}x{near[1]}."
                )


def input_shape(spec: ModelSpec, batch: int, shape: Shape) -> tuple[int, int, int, int]:
    """The input tensor's shape in the spec's layout."""
    return (batch, *shape, 3) if spec.input.layout == "NHWC" else (batch, 3, *shape)


def devices() -> dict[str, Path]:
    """The device profiles that travel with the package: name to file."""
    return {path.stem: path for path in sorted(folder("engines").glob("*.toml"))}


def load_device(name: str) -> Device:
    """The device profile of that name, or in that TOML file.

    Raises UsageError for an unknown name, BackendError where the file is none or has an option that does not exist.
    """
    path = Path(name)
    if path.suffix != ".toml":
        known = devices()
        if name not in known:
            raise unknown("device profile", name, known)
        path = known[name]
    try:
        device = msgspec.toml.decode(path.read_bytes(), type=Device)
    except FileNotFoundError as error:
        raise BackendError(f"{path}: no such device profile. Known by name: {', '.join(devices())}.") from error
    except (OSError, ValueError) as error:  # msgspec's errors and those of TOML and UTF-8 are ValueErrors
        raise BackendError(f"{path} is no device profile: {error}. Its fields are in docs/tensorrt.md.") from error
    check_options(device.options, str(path))
    return device


def device_for(machine: Machine) -> str | None:
    """The name of the device profile that is written for this machine; None where none is, and without a GPU.

    A profile that names targets serves only where this GPU is one of them.
    """
    if machine.gpu is None:
        return None
    told = machine.board or machine.gpu.name
    for name in (name for name, words in WRITTEN_FOR.items() if re.search(words, told)):
        device = load_device(name)
        here = not device.targets or machine.gpu.compute_capability in device.targets
        if device.backend == machine.product and here:
            return name
    return None


def check_options(options: Options, where: str) -> None:
    """Raises UsageError for values that no builder takes; `where` names who said them."""
    if options.level is not None and not 0 <= options.level <= 5:
        raise UsageError(f"{where}: builder optimisation levels are 0 to 5, not {options.level}.")
    if options.workspace is not None and options.workspace < MIB:
        raise UsageError(f"{where}: a workspace of {options.workspace / MIB:g} MiB is none; give at least 1.")
    if options.dla_core is not None and not 0 <= options.dla_core <= 1:
        raise UsageError(f"{where}: DLA cores are 0 and 1, not {options.dla_core}.")
    if options.hardware_compatible not in (None, *get_args(Compatible)):
        raise unknown("hardware compatibility", str(options.hardware_compatible), get_args(Compatible))
