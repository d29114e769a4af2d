"""Our two kernels on the GPU: a frame scaled to the network's input, and its scores decoded to labels.

With them one frame goes over the bus as uint8 and comes back as labels. Their source is kernels.cu; it is compiled
for the GPU at hand by NVRTC, which takes about a second once, and kept in the cache.
"""

from __future__ import annotations

from fcn_edge.cuda.memory import Cuda, Stream
from fcn_edge.spec import Grid, Input

Size = tuple[int, int]  # rows, columns


class Kernels:
    """The kernels, loaded on one GPU.

    Raises BackendError where NVRTC is missing, does not know the GPU, or the driver cannot load what it made.
    """

    def __init__(self, cuda: Cuda) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Unload them; calling it again does nothing."""
        raise NotImplementedError


class Scale:
    """What `prepare.prepare` does, on the GPU: within one grey level of it.

    frame:   (H, W) of the frame, uint8 (H, W, 3), BGR.
    content: the size it is scaled to, by area down and bilinearly up.
    network: (h, w) of the network's input, whose right and bottom border is filled where it is larger.
    input:   the spec's: layout, dtype, colour order, mean and std.

    Raises BackendError where a side is over 16,384.
    """

    frame_bytes: int  # to allocate for the frame: its own, rounded up to whole words
    input_bytes: int  # of the network's input

    def __init__(self, kernels: Kernels, frame: Size, content: Size, network: Size, input: Input) -> None:
        raise NotImplementedError

    def launch(self, stream: Stream, frame: int, out: int) -> None:
        """Queue it. frame, out: addresses on the GPU, as `Buffer.pointer` and `HostBuffer.pointer` are; no allocation,
        so it can be captured.
        """
        raise NotImplementedError


class Decode:
    """What `decode.decode` does, on the GPU: the same labels, but where two scores tie within rounding.

    scores:  (C, h, w) of the network's output.
    dtype:   "float32" or "float16".
    size:    (H, W) that `grid` is meant for: the frame's, or the network's where labels are cut and stretched.
    grid:    as decode takes it.
    used:    the (rows, columns) of scores that lie on the frame; None: all.
    content: the part of `size`, from the top left, that is the frame; None: all.
    labels:  the labels' size, where `content` is stretched to it by nearest neighbour; None: `content`.

    Raises SpecError as decode does, BackendError where a side is over 16,384.
    """

    scores_bytes: int
    labels_bytes: int

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
        raise NotImplementedError

    def launch(self, stream: Stream, scores: int, labels: int) -> None:
        """Queue it. scores, labels: addresses on the GPU; no allocation, so it can be captured."""
        raise NotImplementedError
