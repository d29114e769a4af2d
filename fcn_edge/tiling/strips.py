"""Tiles through a network, row of tiles by row of tiles, and their scores joined into those of the whole picture.

Joined are scores, before they are upsampled: a hundredth of the picture's pixels, and the last upsampling then crosses
the seams as if there were none. One row of tiles is held at a time, and of the one before only what is blended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcn_edge.decode import Axis, axis, decode_part, part
from fcn_edge.errors import ModelError, UsageError
from fcn_edge.files import sha256
from fcn_edge.prepare import Ending
from fcn_edge.spec import Deconv, ModelSpec
from fcn_edge.tiling.cuts import Sides, Size, cut, side_above, smallest, usual
from fcn_edge.tiling.field import Field, read_field

Read = Callable[[int, int], np.ndarray]  # the picture's rows from the first to before the second: uint8 (n, W, 3) BGR
Infer = Callable[[np.ndarray, Size], np.ndarray]  # a tile, uint8 (h, w, 3), and the network's size: float32 (C, h, w)


@dataclass(frozen=True)
class Strip:
    """What one row of tiles settles."""

    number: int
    scores: np.ndarray  # float32 (C, n, w): of whole rows, the last of the strip before among them
    first: int  # which row of the whole picture's scores the first one is
    settled: tuple[int, int]  # rows of scores that are known before and after it
    samples: Size  # scores of the whole picture
    seam: np.ndarray | None  # float32 (C, m, w): what the next strip goes on from; None after the last


@dataclass(frozen=True)
class Tiling:
    """How one model's pictures are cut. `side`: rows and columns of a tile, as the network takes it."""

    spec: ModelSpec
    field: Field
    side: Size

    def cut(self, frame: Size) -> Sides:
        """For a picture of (H, W) pixels, from 1x1."""
        rows, columns = (cut(self.spec, self.field, *each) for each in zip(frame, self.side, strict=True))
        return Sides(rows, columns)

    def strips(
        self, sides: Sides, read: Read, infer: Infer, begin: int = 0, seam: np.ndarray | None = None
    ) -> Iterator[Strip]:
        """The picture's scores from strip `begin` on, with the `seam` that the one before it left."""
        for number in range(begin, len(sides.rows.origins)):
            strip = self._strip(sides, number, read, infer, seam)
            seam = strip.seam
            yield strip

    def _strip(self, sides: Sides, number: int, read: Read, infer: Infer, seam: np.ndarray | None) -> Strip:
        rows, columns = sides.rows, sides.columns
        top = rows.origins[number]
        above = 0 if seam is None else 1  # the last settled row, between which and the next pixels lie
        joined, samples, used = np.empty(0), (0, 0), (0, 0)
        picture = read(top, min(top + rows.tile, rows.pixels))
        for column, left in enumerate(columns.origins):
            scores = infer(picture[:, left : left + columns.tile], sides.tile)
            classes, height, width = scores.shape
            if not column:
                samples, used = (rows.samples(height), columns.samples(width)), rows.used(number, height)
                joined = np.zeros((classes, above + used[1] - used[0], samples[1]), np.float32)
                if seam is not None:
                    joined[:, : seam.shape[1]] = seam
            first, last = columns.used(column, width)
            down, across = top // rows.stride, left // columns.stride
            weights = rows.weights(number, height)[:, None] * columns.weights(column, width)
            own = scores[:, used[0] - down : used[1] - down, first - across : last - across]
            joined[:, above:, first:last] += own * weights
        if number == len(rows.origins) - 1:
            return Strip(number, joined, used[0] - above, used, samples, None)
        stop = above + used[1] - used[0] - rows.blend
        settled = used[0], used[1] - rows.blend
        return Strip(number, joined[:, :stop], used[0] - above, settled, samples, joined[:, stop - 1 :].copy())

    def scores(self, frame: np.ndarray, infer: Infer) -> np.ndarray:
        """The joined scores of a frame in memory, uint8 (H, W, 3): float32 (C, h, w), as `ending` says they lie."""
        whole = np.empty(0)
        size = frame.shape[0], frame.shape[1]
        for strip in self.strips(self.cut(size), lambda first, last: frame[first:last], infer):
            if not strip.number:
                whole = np.empty((len(strip.scores), *strip.samples), np.float32)
            whole[:, strip.first : strip.first + strip.scores.shape[1]] = strip.scores
        return whole

    def ending(self, frame: Size) -> Ending:
        """How the joined scores of a frame of (H, W) pixels become its labels."""
        sides = self.cut(frame)
        return Ending(None, (sides.rows.network, sides.columns.network), frame, frame)

    def labels(self, sides: Sides, strip: Strip) -> np.ndarray:
        """uint8 (n, W): the picture's next rows, exactly as `decode` makes them of all of its scores."""
        grid = self.spec.output.grid
        rows = axis(strip.samples[0], sides.rows.network, grid)
        columns = axis(strip.samples[1], sides.columns.network, grid)
        start, stop = (min(_decided(rows, settled), sides.rows.pixels) for settled in strip.settled)
        part_of = part(rows, start, stop, strip.first), part(columns, 0, sides.columns.pixels, 0)
        return decode_part(strip.scores, *part_of)

    def __str__(self) -> str:
        mean = "; each tile is taken as a whole picture by what the network pools over all of it"
        seen = f"a score sees {self.field.pixels} pixels a side" + (mean if self.field.pooled else "")
        return f"tiles of {self.side[0]}x{self.side[1]}, {seen}"


def open_tiling(spec: ModelSpec, path: Path, size: int | Size | None, overlap: int | None) -> Tiling:
    """How pictures of the model at `path` are cut into tiles.

    size:    of a tile, rounded up to what the network takes; None: enough for most of it to be its own.
    overlap: pixels that a score sees to either side, in place of what the model's graph says.
    Raises UsageError where tiles of that size would get no further, ModelError where the scores do not come home, do
    not lie alike in every tile, or the graph does not say what they see.
    """
    if spec.output.kind == "labels":
        raise ModelError(
            f"{path}: gives finished labels, so there are no scores to blend over the seams of tiles. "
            "Export it with --output scores."
        )
    stride = spec.output.stride
    field = read_field(_graph_file(path), spec) if overlap is None else Field(stride, -overlap, overlap + stride - 1)
    if spec.stride % stride or not _alike(spec):
        raise ModelError(f"{path}: its scores do not lie alike in every tile, so that tiles cannot be joined.")
    if size is None:
        side = usual(spec, field)
        return Tiling(spec, field, (side, side))
    asked = size if isinstance(size, tuple) else (size, size)
    least = smallest(spec, field)
    if min(asked) < least:
        raise UsageError(
            f"tiles of {min(asked)} pixels are too small for {spec.name}: a score sees {field.pixels} of them, "
            f"so that a tile has at least {least}. Take --size {least}, or drop it."
        )
    return Tiling(spec, field, (side_above(spec, asked[0]), side_above(spec, asked[1])))


def _alike(spec: ModelSpec) -> bool:
    """Whether scores lie a whole stride apart in a tile, as in the whole picture."""
    if spec.output.stride == 1 or spec.sides == "any" or isinstance(spec.output.grid, Deconv):
        return True
    return (spec.output.grid == "align_corners") == (spec.sides == "k*stride+1")


def _graph_file(path: Path) -> Path:
    """The ONNX file that says how far the model at `path` looks: itself, or what an engine was built from."""
    if path.suffix == ".onnx":
        return path
    if path.suffix == ".plan":
        from fcn_edge.engine.sidecar import read

        sidecar = read(path)
        source = Path(sidecar.source)
        if source.is_file() and sha256(source) == sidecar.key.onnx:
            return source
    raise ModelError(
        f"{path}: how far its scores look is read from an ONNX file, which this is not. "
        "Export it, or name what tiles are to overlap by: --overlap PIXELS."
    )


def _decided(rows: Axis, settled: int) -> int:
    """How many pixels lie between scores of which the first `settled` are known."""
    open_cells = rows.cells[rows.cells[:, 3] >= settled]
    return int(open_cells[0, 0]) if len(open_cells) else len(rows.weight)
