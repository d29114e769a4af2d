"""The shapes that an engine takes, the options that it is built with, and the boards that it is built for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fcn_edge.spec import ModelSpec

Shape = tuple[int, int]  # rows, columns of a frame at the network's size


@dataclass(frozen=True)
class Profile:
    """The frames that one optimisation profile takes, from `min` to `max`; the kernels are chosen for `opt`."""

    min: Shape
    opt: Shape
    max: Shape
    batch: tuple[int, int, int] = (1, 1, 1)  # likewise

    @property
    def static(self) -> bool:
        return self.min == self.max and self.batch[0] == self.batch[2]

    def takes(self, shape: Shape, batch: int = 1) -> bool:
        return NotImplemented


@dataclass(frozen=True)
class Options:
    """What a builder is told besides shapes; precision is the ONNX file's. All of it is part of an engine's key."""

    workspace: int | None = None  # bytes of scratch memory that a layer may take; None: all that the device has
    level: int | None = None  # builder optimisation level, 0 to 5; None: TensorRT's own, 3
    dla_core: int | None = None  # None: the GPU
    hardware_compatible: str | None = None  # "ampere_plus" or "same_compute_capability"; None: this GPU alone
    version_compatible: bool = False  # loads in newer versions too
    targets: tuple[str, ...] = ()  # RTX ahead of time: compute capabilities as in "8.9"; empty: this GPU


@dataclass(frozen=True)
class Device:
    """A device profile: engines/NAME.toml."""

    name: str
    options: Options


def default_profiles(spec: ModelSpec) -> list[Profile]:
    """One static profile for each network size that `fit` makes of 16:9, 4:3 and 1:1 frames and their portraits."""
    raise NotImplementedError


def input_shape(spec: ModelSpec, batch: int, shape: Shape) -> tuple[int, int, int, int]:
    """The input tensor's shape in the spec's layout."""
    raise NotImplementedError


def load_device(name: str | Path) -> Device:
    """The device profile of that name in engines/, or in a TOML file."""
    raise NotImplementedError
