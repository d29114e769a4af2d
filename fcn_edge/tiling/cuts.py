"""How a picture is cut into tiles, and which scores of each are used.

Along a side all tiles have one length, so that one shape of the network serves them all; the last one is moved back to
end where the network's input of the whole picture would. Its first and last scores see beyond it, except where the
picture itself ends, and are not used; of the others the last few are blended with the next tile's first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fcn_edge.spec import ModelSpec
from fcn_edge.tiling.field import Field

Size = tuple[int, int]  # rows, columns

BLEND = 64  # pixels over which two tiles' scores pass into each other, where a mean over each differs
OWN = 0.6  # of a tile's side that no other tile computes too, by default: beyond it memory grows faster than time falls
LARGEST = 2049  # a tile's side by default: 600 MB in float32 for a network of the bundled kind


@dataclass(frozen=True)
class Cut:
    """One side of a picture. Pixels are counted over the whole side, and so are scores, `stride` pixels apart.

    Of an inner tile's own scores those from `first` to before `last` see no more than the tile.
    """

    pixels: int  # of the picture
    network: int  # of it and the border that brings it to a side that the network takes
    tile: int
    step: int  # pixels from one tile to the next
    stride: int
    first: int
    last: int
    blend: int  # scores

    @property
    def origins(self) -> list[int]:
        """The first pixel of every tile."""
        return [*range(0, self.network - self.tile, self.step), self.network - self.tile]

    def samples(self, tile: int) -> int:
        """Scores of the whole side, where a tile has `tile` of them."""
        return tile + (self.network - self.tile) // self.stride

    def used(self, number: int, tile: int) -> tuple[int, int]:
        """The first score of a tile that is used, and the one after the last; `tile`: how many it has."""
        begin = 0 if number == 0 else self._end(number - 1, tile) - self.blend
        return begin, self._end(number, tile)

    def _end(self, number: int, tile: int) -> int:
        origins = self.origins
        return origins[number] // self.stride + (tile if number == len(origins) - 1 else self.last)

    def weights(self, number: int, tile: int) -> np.ndarray:
        """float32, of each score used: they rise and fall over a blend, and those of neighbours sum to 1."""
        begin, end = self.used(number, tile)
        weights = np.ones(end - begin, np.float32)
        ramp = np.arange(1, self.blend + 1, dtype=np.float32) / np.float32(self.blend + 1)
        if number > 0:
            weights[: self.blend] = ramp
        if number < len(self.origins) - 1:
            weights[-self.blend :] = 1 - ramp
        return weights


@dataclass(frozen=True)
class Sides:
    """How a picture of one size is cut."""

    rows: Cut
    columns: Cut

    @property
    def frame(self) -> Size:
        return self.rows.pixels, self.columns.pixels

    @property
    def tile(self) -> Size:
        return self.rows.tile, self.columns.tile

    @property
    def tiles(self) -> int:
        return len(self.rows.origins) * len(self.columns.origins)


def cut(spec: ModelSpec, field: Field, pixels: int, tile: int) -> Cut:
    """`pixels` of a picture's side, by tiles of that many, which are enough; one tile where it is shorter."""
    network = side_above(spec, pixels)
    first, last = _inner(field, tile)
    blend = _blend(field)
    step = (last - first - blend) * field.stride // spec.stride * spec.stride
    return Cut(pixels, network, min(tile, network), step, field.stride, first, last, blend)


def smallest(spec: ModelSpec, field: Field) -> int:
    """The smallest side of tiles that get on: beside the blend they have scores that no other tile gives."""
    first, _ = _inner(field, 0)
    own = max(spec.stride, (_blend(field) + 1) * field.stride)
    return side_above(spec, (first + _blend(field)) * field.stride + own + field.last + spec.stride)


def usual(spec: ModelSpec, field: Field) -> int:
    """The side of tiles where none is asked for."""
    wanted = (field.pixels + BLEND) / (1 - OWN)
    return side_above(spec, max(min(round(wanted), LARGEST), spec.size, smallest(spec, field)))


def side_above(spec: ModelSpec, pixels: int) -> int:
    """The smallest side from `pixels` on whose scores lie a whole stride apart, as the whole picture's do.

    Where a network takes any side, those of aligned corners do so at k*stride+1 alone, the others at k*stride.
    """
    aligned = spec.output.grid == "align_corners" if spec.sides == "any" else spec.sides == "k*stride+1"
    return max(1, -(-(pixels - aligned) // spec.stride)) * spec.stride + aligned


def _inner(field: Field, tile: int) -> Size:
    """The scores of an inner tile that see no more than it: the first, and the one after the last."""
    return max(0, -(field.first // field.stride)), (tile - 1 - field.last) // field.stride + 1


def _blend(field: Field) -> int:
    return max(1, BLEND // field.stride)
