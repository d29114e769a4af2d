"""The two kernels, run once on a frame or on scores, and what their labels are held to.

The GPU's tests and those on the stand-in for one (emulated.py) share this.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from fcn_edge.cuda.kernels import Decode, Kernels, Scale
from fcn_edge.decode import decode
from fcn_edge.prepare import Size
from fcn_edge.spec import Deconv, Grid, Input

Array = np.ndarray[Any, Any]
ROUNDING = 1e-5  # of the greatest score around: some float32 operations' worth


def photo(path: Path, size: Size) -> Array:
    """The picture at a size that it need not have."""
    picture = cv2.imread(str(path))
    assert picture is not None
    return cv2.resize(picture, size[::-1])


def scale(kernels: Kernels, frame: Array, content: Size, network: Size, input: Input) -> Array:
    """The network's input as the GPU makes it, one frame of a batch."""
    cuda = kernels.cuda
    task = Scale(kernels, (frame.shape[0], frame.shape[1]), content, network, input)
    source, out = cuda.device(task.frame_bytes), cuda.device(task.input_bytes)
    host, back, stream = cuda.host(frame.shape), cuda.host(task.input_bytes), cuda.stream()
    host.array[...] = frame
    stream.upload(source, host, frame.nbytes)
    task.launch(stream, source.pointer, out.pointer)
    stream.download(back, out)
    stream.synchronize()
    shape = (*network, 3) if input.layout == "NHWC" else (3, *network)
    result = back.array.view(input.dtype).reshape(shape).copy()
    for thing in (task, source, out, host, back, stream):
        thing.close()
    return result


def labels(kernels: Kernels, scores: Array, size: Size, grid: Grid, **part: Size) -> Array:
    """The labels as the GPU makes them; `part` as Decode takes it."""
    cuda = kernels.cuda
    classes, height, width = scores.shape
    task = Decode(kernels, (classes, height, width), str(scores.dtype), size, grid, **part)
    source, out = cuda.upload(scores), cuda.device(task.labels_bytes)
    back, stream = cuda.host(part.get("labels") or part.get("content") or size), cuda.stream()
    task.launch(stream, source.pointer, out.pointer)
    stream.download(back, out)
    stream.synchronize()
    result = back.array.copy()
    for thing in (task, source, out, back, stream):
        thing.close()
    return result


def assert_labels_agree(labels: Array, scores: Array, size: Size, grid: Grid) -> None:
    """Equal to the CPU's, or of a score that ties with it within rounding: upsampled here in float64."""
    expected = decode(scores.astype(np.float32), size, grid)
    assert labels.shape == expected.shape
    for row, column in np.argwhere(labels != expected):
        pair = scores[[labels[row, column], expected[row, column]]].astype(np.float64)
        rows = share(row, scores.shape[1], size[0], grid)
        columns = share(column, scores.shape[2], size[1], grid)
        ours, theirs = (rows @ one @ columns for one in pair)
        allowed = ROUNDING * np.abs(pair).max() + np.finfo(np.float32).tiny
        assert abs(ours - theirs) <= allowed, f"at {row}, {column}: {ours}, not {theirs}"


def share(pixel: int, samples: int, pixels: int, grid: Grid) -> Array:
    """What each sample adds to a pixel, by the definition of the grid."""
    if grid == "half_pixel":
        position = (pixel + 0.5) * samples / pixels - 0.5
    elif isinstance(grid, Deconv):
        taps = 2 * grid.deconv - grid.deconv % 2
        position = (pixel + grid.crop - (taps - 1) / 2) / grid.deconv
    else:
        position = pixel * (samples - 1) / max(1, pixels - 1)
    return np.maximum(0, 1 - np.abs(np.arange(samples) - min(max(position, 0), samples - 1)))
