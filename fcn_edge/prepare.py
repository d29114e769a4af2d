"""A frame as the network wants it, and where in the network's input it lies.

How a network's training pictures were scaled decides how its frames must be, so there are four ways, and
each leaves something else to cut off the output, which `end` says. Scaling down averages, scaling up interpolates.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from fcn_edge.errors import SourceError, UsageError
from fcn_edge.shrink import shrink
from fcn_edge.spec import Deconv, ModelSpec, Resize

Size = tuple[int, int]  # rows, columns

NATIVE_PIXELS = 24_000_000  # 5472x3648 takes 1.6 GB in bfloat16 and more in float32; a laptop has little more to give
MEAN = (127.5, 127.5, 127.5)  # the border's colour where the spec names no mean: about zero, once normalised


@dataclass(frozen=True)
class Layout:
    """The frame fills `content`, counted from the top left of `network`; the rest is border."""

    network: Size
    content: Size


@dataclass(frozen=True)
class Ending:
    """How the scores of a frame become its labels."""

    used: Size | None  # the first rows and columns of the scores, which alone lie on the frame; None: all
    size: Size  # that they are decoded at
    content: Size  # the first rows and columns of those labels are the frame
    labels: Size  # that these are stretched to: the frame's own


def lay_out(spec: ModelSpec, frame: Size, resize: Resize, size: int | Size | None) -> Layout:
    """The network size for frames of that size.

    size: the longer side, a box (H, W), or None for the spec's own; rounded to what the network takes.
    Raises UsageError where `native` is given a size, SourceError where it is given too large a frame.
    """
    if resize == "native":
        return _native(spec, frame, size)
    box = size if isinstance(size, tuple) else (size or spec.size,) * 2
    full = spec.side(box[0]), spec.side(box[1])
    if resize == "stretch":
        return Layout(full, full)
    scale = min(box[0] / frame[0], box[1] / frame[1])
    fitted = spec.side(frame[0] * scale), spec.side(frame[1] * scale)
    return Layout(fitted if resize == "fit" else full, fitted)


def _native(spec: ModelSpec, frame: Size, size: int | Size | None) -> Layout:
    if size is not None:
        raise UsageError("native keeps the frame's own size: drop --size, or take --resize fit.")
    if frame[0] * frame[1] > NATIVE_PIXELS:
        raise SourceError(
            f"{frame[1]}x{frame[0]} is more than the {NATIVE_PIXELS:,} pixels that --resize native takes. "
            "Take --resize tiles, or fit."
        )
    return Layout((spec.side_above(frame[0]), spec.side_above(frame[1])), frame)


def end(spec: ModelSpec, layout: Layout, resize: Resize, frame: Size) -> Ending:
    """How the scores of a frame of that size, laid out so, become labels."""
    output = spec.output
    if resize == "native" or isinstance(output.grid, Deconv):
        # Those place the scores on the network's own pixels: decoded there, cut, and scaled only if they must be.
        return Ending(None, layout.network, layout.content, frame)
    corner = 1 if output.grid == "align_corners" else 0
    rows, columns = (-(-(side - corner) // output.stride) + corner for side in layout.content)
    return Ending((rows, columns), frame, frame, frame)


def prepare(spec: ModelSpec, frame: np.ndarray, layout: Layout) -> np.ndarray:
    """`frame`, uint8 (H, W, 3) BGR, as a batch of one in the layout, dtype and colours of the spec; always a copy."""
    picture = scale(frame, layout.content)
    if layout.content != layout.network:
        below, right = layout.network[0] - layout.content[0], layout.network[1] - layout.content[1]
        color = [int(value) for value in (spec.input.mean or MEAN)[:: _order(spec)]]
        picture = cv2.copyMakeBorder(picture, 0, below, 0, right, cv2.BORDER_CONSTANT, value=color)
    elif picture is frame:
        picture = frame.copy()
    if spec.input.dtype == "uint8" and spec.input.layout == "NHWC" and spec.input.color == "BGR":
        return picture[None]
    planes = list(cv2.split(picture))[:: _order(spec)]
    if spec.input.dtype == "float32":
        mean, std = spec.input.mean or (0.0,) * 3, spec.input.std or (1.0,) * 3
        planes = [_normalise(plane, *moments) for plane, *moments in zip(planes, mean, std, strict=True)]
    return (np.stack(planes) if spec.input.layout == "NCHW" else cv2.merge(planes))[None]


def scale(frame: np.ndarray, size: Size) -> np.ndarray:
    """`frame` at `size`; the same array where it has that size already."""
    rows, columns = frame.shape[:2]
    smaller = min(rows, size[0]), min(columns, size[1])
    if smaller != (rows, columns):
        frame = shrink(frame, smaller)
    if smaller != size:
        frame = cv2.resize(frame, size[::-1], interpolation=cv2.INTER_LINEAR)
    return frame


def _order(spec: ModelSpec) -> int:
    """The step through B, G, R that gives the network's colour order."""
    return 1 if spec.input.color == "BGR" else -1


def _normalise(plane: np.ndarray, mean: float, std: float) -> np.ndarray:
    out = np.multiply(plane, np.float32(1 / std))
    out -= np.float32(mean / std)
    return out
