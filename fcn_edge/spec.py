"""What a model file says of itself.

A network that travels as a bare graph leaves its user to guess colour order, normalisation, size and
class names, and each wrong guess costs accuracy without an error. So every artefact carries a
`ModelSpec`: ONNX and safetensors files in their metadata under `fcn_edge.spec`, an engine in its
sidecar. A foreign file is described by a small TOML file (`--spec`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

import msgspec

from fcn_edge.errors import SpecError

METADATA_KEY = "fcn_edge.spec"
SCHEMA = 1
VOID = 255  # a label that is no class: left out of losses and metrics
MAX_CLASSES = 254

Color = Literal["BGR", "RGB"]
Resize = Literal["fit", "stretch", "native", "letterbox"]
Precision = Literal["fp32", "fp16", "int8"]
Padding = Literal["same", "paper"]
Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Input:
    """How a frame enters the graph. `mean` and `std` are in units of 0..255, null where inside the graph."""

    layout: Literal["NHWC", "NCHW"] = "NHWC"
    dtype: Literal["uint8", "float32"] = "uint8"
    color: Color = "BGR"
    mean: Triple | None = None
    std: Triple | None = None


@dataclass(frozen=True)
class Deconv:
    """The grid of a transposed convolution with kernel 2f - f%2 and stride f, cropped at top and left.

    Long et al. 2015, section 3.3.
    """

    deconv: int  # the factor f
    crop: int = 0  # rows and columns cut off at top and left after the transposed convolution


Grid = Literal["half_pixel", "align_corners"] | Deconv


@dataclass(frozen=True)
class Output:
    """What leaves the graph: class scores before the last upsampling, or finished labels."""

    kind: Literal["scores", "labels"] = "scores"
    stride: int = 1
    grid: Grid = "half_pixel"
    name: str | None = None  # of the output, where the file has several; null: the first


@dataclass(frozen=True)
class ModelSpec:
    """The contract between a model file and everything that runs it. Field by field in docs/spec.md."""

    name: str
    classes: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...] = ()  # RGB; empty: the VOC colours
    schema: int = SCHEMA
    variant: str = ""
    padding: Padding = "same"  # the form of a variant that comes in two: docs/spec.md
    covered: tuple[str, ...] | None = None  # classes that the weights were trained on; null: all
    thin: tuple[str, ...] = ()  # covered, but by few training pictures: the model card says how few
    trained: bool = True
    input: Input = field(default_factory=Input)
    size: int = 512
    stride: int = 32
    sides: Literal["k*stride", "k*stride+1", "any"] = "k*stride"
    resize: Resize = "fit"
    output: Output = field(default_factory=Output)
    precision: Precision = "fp32"
    remainder: Precision | None = None  # of what is not int8
    provenance: dict[str, Any] = field(default_factory=dict[str, Any])
    quality: dict[str, Any] = field(default_factory=dict[str, Any])

    def __post_init__(self) -> None:
        if self.schema > SCHEMA:
            raise SpecError(
                f"{self.name}: its spec has schema {self.schema}, this fcn-edge reads up to {SCHEMA}. "
                "Upgrade fcn-edge, or export the model again with this one."
            )
        if not 1 <= len(self.classes) <= MAX_CLASSES:
            raise SpecError(f"{self.name}: {len(self.classes)} classes, 1 to {MAX_CLASSES} are possible.")
        twice = sorted({name for name in self.classes if self.classes.count(name) > 1})
        if twice:
            raise SpecError(f"{self.name}: {', '.join(twice)} stands among its classes more than once.")
        if not self.palette:
            object.__setattr__(self, "palette", voc_palette(len(self.classes)))
        if len(self.palette) != len(self.classes):
            raise SpecError(f"{self.name}: {len(self.palette)} colours for {len(self.classes)} classes.")
        if self.size < 1 or self.stride < 1 or self.output.stride < 1:
            raise SpecError(f"{self.name}: size and strides are at least 1, not {self.size}, {self.stride}.")

    def side(self, pixels: float) -> int:
        """The allowed network side nearest to `pixels`; never below the smallest one."""
        if self.sides == "any":
            return max(1, round(pixels))
        offset = 1 if self.sides == "k*stride+1" else 0
        return max(1, round((pixels - offset) / self.stride)) * self.stride + offset

    def side_above(self, pixels: int) -> int:
        """The smallest allowed network side that is at least `pixels`."""
        if self.sides == "any":
            return pixels
        offset = 1 if self.sides == "k*stride+1" else 0
        return max(1, -(-(pixels - offset) // self.stride)) * self.stride + offset

    def to_json(self) -> str:
        return msgspec.json.encode(self).decode()


PARTS = {"input": Input, "output": Output, "grid": Deconv}


def from_json(text: str | bytes, where: str) -> ModelSpec:
    """The spec in `text`; `where` names the file in errors."""
    try:
        return msgspec.json.decode(text, type=ModelSpec)
    except SpecError as error:  # it knows the model's name, not the file's
        raise SpecError(f"{where}: {error}") from error
    except msgspec.MsgspecError as error:
        raise SpecError(f"{where}: its {METADATA_KEY} metadata is not a spec: {error}.") from error


def from_toml(path: Path) -> ModelSpec:
    """The spec that describes a foreign model, from a TOML file."""
    if not path.is_file():
        raise SpecError(f"{path}: no such spec file. Its fields are in docs/spec.md.")
    try:
        text = path.read_bytes()
        strange = sorted(_unknown(msgspec.toml.decode(text), ModelSpec))
        if strange:
            raise SpecError(f"a spec has no field {strange[0]!r}. Fields: docs/spec.md.")
        return msgspec.toml.decode(text, type=ModelSpec)
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from error
    except (OSError, msgspec.MsgspecError, ValueError) as error:
        raise SpecError(f"{path}: not a model spec: {error}. Fields: docs/spec.md.") from error


def _unknown(document: dict[str, Any], kind: type, where: str = "") -> Iterator[str]:
    """Names in a document, written by hand, that are no fields: they would be passed over without a word."""
    known = {entry.name for entry in fields(kind)}
    for name, value in document.items():
        if name not in known:
            yield where + name
        elif isinstance(value, dict) and name in PARTS:
            yield from _unknown(cast("dict[str, Any]", value), PARTS[name], f"{where}{name}.")


def voc_palette(count: int) -> tuple[tuple[int, int, int], ...]:
    """RGB colours of VOC's masks: the bits of the index, dealt out to the high bits of R, G and B."""
    return tuple(
        tuple(sum((i >> (3 * bit + channel) & 1) << (7 - bit) for bit in range(8)) for channel in range(3))  # type: ignore[misc]
        for i in range(count)
    )


VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
