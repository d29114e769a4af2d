"""Our two kernels on the GPU: a frame scaled to the network's input, and its scores decoded to labels.

With them one frame goes over the bus as uint8 and comes back as labels. Their source is kernels.cu; it is compiled
for the GPU at hand by NVRTC, which takes under a second once, and kept in the cache.
"""

from __future__ import annotations

import ctypes
from ctypes import c_float, c_int, c_void_p
from importlib import resources
from math import ceil

import numpy as np

from fcn_edge.cuda import compiler, geometry
from fcn_edge.cuda.memory import Cuda, Stream, Three
from fcn_edge.errors import BackendError, SpecError
from fcn_edge.spec import MAX_CLASSES, Grid, Input

Size = tuple[int, int]  # rows, columns

SHARED = 48 << 10  # bytes of shared memory that a block may have on every GPU without asking for more
BLOCKS = 65535  # a grid's limit in y
ELEMENTS = 2**31  # the kernels count in 32 bits

# As in kernels.cu.
THREADS, LANES, STRIP, MASK_WORDS = 256, 32, 4, 8
WARPS = THREADS // LANES

BAND = 32  # rows of labels in a block at most, so that a network of one row of scores still fills the GPU
CELL = 16  # labels in a cell from which it pays to find its winners first, by count of the instructions of either way
BORDER = (127.5, 127.5, 127.5)  # the border's colour where the spec names no mean, as prepare.MEAN


class ScaleArguments(ctypes.Structure):
    _fields_ = (
        ("frame", c_void_p),
        ("out", c_void_p),
        ("rows", c_void_p),
        ("columns", c_void_p),
        ("row_body", c_float),
        ("column_body", c_float),
        ("pitch", c_int),
        ("width", c_int),
        ("content", c_int),
        ("tile", c_int),
        ("row_step", c_int),
        ("column_step", c_int),
        ("channel_at", c_int * 3),
        ("factor", c_float * 3),
        ("shift", c_float * 3),
        ("border", c_float * 3),
    )


class DecodeArguments(ctypes.Structure):
    _fields_ = (
        ("scores", c_void_p),
        ("labels", c_void_p),
        ("rows", c_void_p),
        ("columns", c_void_p),
        ("bands", c_void_p),
        ("classes", c_int),
        ("plane", c_int),
        ("pitch", c_int),
        ("bottom", c_int),
        ("right", c_int),
        ("height", c_int),
        ("width", c_int),
        ("span", c_int),
    )


def source() -> str:
    """The kernels' CUDA C++."""
    return resources.files("fcn_edge.cuda").joinpath("kernels.cu").read_text()


class Kernels:
    """The kernels, loaded on one GPU.

    Raises BackendError where NVRTC is missing, does not know the GPU, or the driver cannot load what it made.
    """

    def __init__(self, cuda: Cuda) -> None:
        self.cuda = cuda
        image = compiler.compiled(source(), "kernels.cu", cuda.gpu.compute_capability)
        try:
            self._module = cuda.module(image)
        except BackendError as error:
            raise BackendError(f"{error} {_older_nvrtc(cuda.gpu.cuda)}".rstrip()) from error

    def function(self, name: str) -> int:
        return self._module.function(name)

    def close(self) -> None:
        """Unload them; calling it again does nothing."""
        self._module.close()


def _older_nvrtc(driver: tuple[int, int]) -> str:
    """What to do where NVRTC is of a newer CUDA than the driver runs; nothing where it is not."""
    newest = compiler.version()
    if tuple(map(int, newest.split("."))) <= driver:
        return ""
    major, minor = driver
    wheel = "nvidia-cuda-nvrtc" if major >= 13 else f"nvidia-cuda-nvrtc-cu{major}"  # the name changed with 13
    return (
        f"NVRTC is of CUDA {newest}, the driver of {major}.{minor}. Update the driver, or: "
        f"pip install 'cuda-python=={major}.*' '{wheel}=={major}.{minor}.*'"
    )


class Scale:
    """What `prepare.prepare` does, on the GPU: within one grey level of it.

    frame:   (H, W) of the frame, uint8 (H, W, 3), BGR.
    content: the size it is scaled to, by area down and bilinearly up.
    network: (h, w) of the network's input, whose right and bottom border is filled where it is larger.
    input:   the spec's: layout, dtype, colour order, mean and std.

    Raises BackendError where a frame is so large, or made so small, that the kernel cannot.
    """

    def __init__(self, kernels: Kernels, frame: Size, content: Size, network: Size, input: Input) -> None:
        words = (3 * frame[0] * frame[1] - 1) // 4
        self.frame_bytes = 4 * (words + 2)  # to allocate for the frame: whole words, and one that is read along
        element = 4 if input.dtype == "float32" else 1
        self.input_bytes = 3 * network[0] * network[1] * element  # of the network's input
        rows, row_body = geometry.taps(frame[0], content[0], network[0] - content[0])
        columns, column_body = geometry.taps(frame[1], content[1], network[1] - content[1])
        # As many columns as keep a block's threads busy, once summing up rows and once adding up columns.
        fitting = int((4 * THREADS / 3 - 2) / max(1, frame[1] / content[1]))
        tile = min(max(1, fitting), THREADS // 3)
        inside = columns[: content[1]]
        self._shared = 4 * (3 * geometry.widest(inside["first"], inside["last"], tile) + 8)
        counted = max(self.frame_bytes, 3 * network[0] * network[1])
        if counted >= ELEMENTS or self._shared > SHARED or network[0] > BLOCKS:
            raise BackendError(
                f"The GPU's kernel cannot scale {frame[1]}x{frame[0]} to {content[1]}x{content[0]}: more than it "
                "counts or holds at once. Take a smaller frame, or a larger network size."
            )
        self._function = kernels.function(f"scale_{input.dtype}")
        self._tables = kernels.cuda.upload(rows), kernels.cuda.upload(columns)
        self._grid: Three = (ceil(network[1] / tile), network[0], 1)
        self._arguments = ScaleArguments(
            rows=self._tables[0].pointer,
            columns=self._tables[1].pointer,
            row_body=row_body,
            column_body=column_body,
            pitch=3 * frame[1],
            width=network[1],
            content=content[1],
            tile=tile,
        )
        _lay_out(self._arguments, network, input)

    def launch(self, stream: Stream, frame: int, out: int) -> None:
        """Queue it. frame, out: addresses on the GPU, as `Buffer.pointer` and `HostBuffer.pointer` are, whole words.

        It allocates nothing, so it can be captured.
        """
        arguments = ScaleArguments.from_buffer_copy(self._arguments)
        arguments.frame, arguments.out = frame, out
        stream.launch(self._function, self._grid, (THREADS, 1, 1), arguments, self._shared)

    def close(self) -> None:
        """Free its tables; calling it again does nothing."""
        for table in self._tables:
            table.close()


def _lay_out(arguments: ScaleArguments, network: Size, input: Input) -> None:
    """Where each channel of the frame goes in the network's input, and how its levels become values."""
    planar = input.layout == "NCHW"
    arguments.row_step, arguments.column_step = (network[1], 1) if planar else (3 * network[1], 3)
    channel_step = network[0] * network[1] if planar else 1
    order = 1 if input.color == "BGR" else -1
    factor = [1 / std for std in input.std or (1.0,) * 3][::order]
    shift = [mean / std for mean, std in zip(input.mean or (0.0,) * 3, input.std or (1.0,) * 3, strict=True)][::order]
    border = (input.mean or BORDER)[::order]
    for channel, at in enumerate((0, 1, 2)[::order]):
        arguments.channel_at[channel] = at * channel_step
        arguments.factor[channel] = factor[channel]
        arguments.shift[channel] = shift[channel]
        arguments.border[channel] = int(border[channel])


class Decode:
    """What `decode.decode` does, on the GPU: the same labels, but where two scores tie within rounding.

    scores:  (C, h, w) of the network's output.
    dtype:   "float32" or "float16".
    size:    (H, W) that `grid` is meant for: the frame's, or the network's where labels are cut and stretched.
    grid:    as decode takes it.
    used:    the (rows, columns) of scores that lie on the frame, at most those that there are; None: all.
    content: the part of `size`, from the top left, that is the frame; None: all.
    labels:  the labels' size, where `content` is stretched to it by nearest neighbour; None: `content`.

    Raises SpecError as decode does, BackendError where there is more than the kernel counts.
    """

    def __init__(
        self,
        kernels: Kernels,
        scores: tuple[int, int, int],
        dtype: str,
        size: Size,
        grid: Grid = "half_pixel",
        used: Size | None = None,
        content: Size | None = None,
        labels: Size | None = None,
    ) -> None:
        _check(scores, dtype, size)
        most = scores[1], scores[2]
        used = most if used is None else (min(used[0], most[0]), min(used[1], most[1]))
        content = content or size
        labels = labels or content
        self.scores_bytes = int(np.prod(scores)) * np.dtype(dtype).itemsize
        self.labels_bytes = labels[0] * labels[1]
        rows, columns = (geometry.places(used[i], size[i], grid, content[i], labels[i]) for i in range(2))
        bands = geometry.bands(rows, BAND)
        if np.prod(scores) >= ELEMENTS or max(len(bands) - 1, ceil(labels[0] / WARPS)) > BLOCKS:
            raise BackendError(f"The GPU's kernel cannot decode scores of shape {scores} to {labels[1]}x{labels[0]}.")
        span = geometry.widest(columns["sample"], columns["sample"], LANES * STRIP) + 1
        shared = 4 * span * (2 * scores[0] + 4 + MASK_WORDS + 2 + 1)
        by_cells = labels[0] * labels[1] >= CELL * used[0] * used[1] and shared <= SHARED
        self._shared = shared if by_cells else 0
        across = LANES * STRIP if by_cells else LANES
        self._grid: Three = (ceil(labels[1] / across), len(bands) - 1 if by_cells else ceil(labels[0] / WARPS), 1)
        self._function = kernels.function(f"decode_{'cells' if by_cells else 'labels'}_{dtype}")
        self._tables = [kernels.cuda.upload(table) for table in (rows, columns, bands)]
        self._arguments = DecodeArguments(
            rows=self._tables[0].pointer,
            columns=self._tables[1].pointer,
            bands=self._tables[2].pointer,
            classes=scores[0],
            plane=scores[1] * scores[2],
            pitch=scores[2],
            bottom=used[0] - 1,
            right=used[1] - 1,
            height=labels[0],
            width=labels[1],
            span=span,
        )

    def launch(self, stream: Stream, scores: int, labels: int) -> None:
        """Queue it. scores, labels: addresses on the GPU, the labels' that of a whole word.

        It allocates nothing, so it can be captured.
        """
        arguments = DecodeArguments.from_buffer_copy(self._arguments)
        arguments.scores, arguments.labels = scores, labels
        stream.launch(self._function, self._grid, (THREADS, 1, 1), arguments, self._shared)

    def close(self) -> None:
        """Free its tables; calling it again does nothing."""
        for table in self._tables:
            table.close()


def _check(scores: tuple[int, int, int], dtype: str, size: Size) -> None:
    if dtype not in ("float32", "float16"):
        raise SpecError(f"Scores are float32 or float16, not {dtype}.")
    if not 1 <= scores[0] <= MAX_CLASSES:
        raise SpecError(f"Scores are of 1 to {MAX_CLASSES} classes, not {scores[0]} (shape {scores}).")
    if min(scores) < 1:
        raise SpecError(f"Scores of shape {scores} cover no pixel.")
    if min(size) < 1:
        raise SpecError(f"Labels of {min(size)} pixels a side cannot be: the size is (height, width), from 1x1.")
