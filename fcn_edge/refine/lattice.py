"""Which pixels of a frame are near and of like colour, for a mean over all of them: a permutohedral lattice.

A Gaussian filter over place and colour weighs every pixel by every other, 35 billion pairs in a VOC picture. Here
pixels are points in five dimensions, x, y, B, G and R, each divided by its sigma; a lattice of simplices fills that
space, and of its vertices only those around a pixel are kept. A pixel's values are dealt out to the six corners of its
simplex, the vertices are blurred along the lattice's six directions, and a pixel gathers its own from
its corners again. Adams, Baek and Davis 2010, "Fast High-Dimensional Filtering Using the Permutohedral Lattice".

A vertex is named by one integer: its six coordinates leave the same remainder when divided by six and add up to zero,
so five quotients of 12 bits and the remainder tell them all, and the next vertex along a direction is a fixed number
away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numba import float32, int32, int64, intp, types, uint8, void

from fcn_edge.jit import kernel, readable, writable

AXES = 5
CORNERS = AXES + 1
LANES = 4  # vertices hold a multiple of as many values, for the processor's vectors
FURTHEST = 1000  # sigmas from one end of an axis to the other that a vertex's name has the bits for

_BITS = 12
_UNIT = np.array([1 << (3 + _BITS * axis) for axis in range(AXES)] + [0], np.int64)  # the sixth follows from the others
_ORIGIN = int(_UNIT.sum()) << (_BITS - 1)  # keeps quotients positive
# From a vertex to the next one along each direction: where the remainder rises by one, and where it wraps around.
_RISE = 1 - _UNIT
_WRAP = _UNIT.sum() - _UNIT - AXES
# Unit vectors along the lattice, scaled so that dealing, blurring and gathering spread a point by one sigma in all.
_SCALE = np.array([np.sqrt(2 / 3) / np.sqrt((axis + 1) * (axis + 2)) for axis in range(AXES)], np.float32)
_GOLDEN = -7046029254386353131  # 2 ** 64 / golden ratio as an int64: spreads names over the table (Knuth)


class Lattice(NamedTuple):
    """The simplices of a frame's N pixels, row by row, among M vertices."""

    corners: np.ndarray  # int32 (N, 6): the vertices around each pixel
    weights: np.ndarray  # float32 (N, 6): how much of a pixel belongs to each; a pixel's add up to 1
    neighbours: np.ndarray  # int32 (6, M, 2): before and after each vertex along each direction; M where there is none

    def vertices(self, lanes: int) -> np.ndarray:
        """Room for values of the vertices: zeros, float32 (M + 1, lanes); the last row stays zero."""
        return np.zeros((self.neighbours.shape[1] + 1, lanes), np.float32)

    def filter(self, pixels: np.ndarray, values: np.ndarray, scratch: np.ndarray, out: np.ndarray) -> None:
        """Sums of all pixels' values, each weighed by the Gaussian of its distance, up to a factor common to all.

        pixels, out: float32 (N, K), K a multiple of `LANES`; values, scratch: as `vertices` gives them.
        """
        values.fill(0)
        _deal(self.corners, self.weights, pixels, values)
        _blur(self.neighbours, values, scratch)
        _gather(self.corners, self.weights, values, out)


def lattice(frame: np.ndarray, place: float, colour: float) -> Lattice:
    """The lattice of a frame, uint8 (H, W, 3), for Gaussians of sigma `place` (pixels) and `colour` (of 255).

    Sides and colours span at most `FURTHEST` sigmas.
    """
    pixels = frame.shape[0] * frame.shape[1]
    corners, weights = np.empty((pixels, CORNERS), np.int32), np.empty((pixels, CORNERS), np.float32)
    names, table = _locate(np.ascontiguousarray(frame), 1 / place, 1 / colour, corners, weights)
    neighbours = np.full((CORNERS, len(names), 2), len(names), np.int32)
    _meet(names, table, neighbours)
    return Lattice(corners, weights, neighbours)


@kernel(intp(int64, readable(int32, 1), readable(int64, 1)))
def _slot(name, table, names):
    """Where the table holds that vertex, or the free place where it belongs."""
    last = table.shape[0] - 1
    spread = name * _GOLDEN
    slot = (spread ^ (spread >> 32)) & last
    while table[slot] >= 0 and names[table[slot]] != name:
        slot = (slot + 1) & last
    return slot


@kernel(int64(writable(float32, 1), writable(float32, 1), writable(int32, 1), writable(int32, 1), writable(float32, 1)))
def _simplex(feature, place, rank, at, weights):
    """The name of the corner of remainder 0; fills the corners' weights and `at`, which says who has which rank."""
    one, half = np.float32(1), np.float32(0.5)
    total = np.float32(0)
    for axis in range(AXES, 0, -1):
        part = feature[axis - 1] * _SCALE[axis - 1]
        place[axis] = total - np.float32(axis) * part
        total += part
    place[0] = total
    name, off = int64(_ORIGIN), 0
    for axis in range(CORNERS):
        nearest = np.floor(place[axis] + half)
        place[axis] -= nearest
        off += int(nearest)
        name += int64(nearest) * _UNIT[axis]
        rank[axis] = 0
        weights[axis] = 0
    for axis in range(CORNERS):
        for other in range(axis + 1, CORNERS):
            if place[axis] < place[other]:
                rank[axis] += 1
            else:
                rank[other] += 1
    wrapped = np.float32(0)
    for axis in range(CORNERS):
        rank[axis] += off  # rounding left the plane by so much: the extreme axes step back
        if rank[axis] < 0:
            rank[axis] += CORNERS
            place[axis] -= one
            name += _UNIT[axis]
        elif rank[axis] >= CORNERS:
            rank[axis] -= CORNERS
            place[axis] += one
            name -= _UNIT[axis]
        at[rank[axis]] = axis
        weights[AXES - rank[axis]] += place[axis]
        if rank[axis] > 0:
            weights[CORNERS - rank[axis]] -= place[axis]
        else:
            wrapped = place[axis]
    weights[0] += one - wrapped
    return name


@kernel(types.Tuple((writable(int32, 1), writable(int64, 1)))(writable(int64, 1)))
def _grown(names):
    """A table and names of four times the room."""
    more = np.empty(4 * names.shape[0], np.int64)
    table = np.full(2 * more.shape[0], -1, np.int32)
    for vertex in range(names.shape[0]):
        more[vertex] = names[vertex]
        table[_slot(names[vertex], table, more)] = vertex
    return table, more


@kernel(
    types.Tuple((writable(int64, 1), writable(int32, 1)))(
        readable(uint8, 3), float32, float32, writable(int32, 2), writable(float32, 2)
    )
)
def _locate(frame, per_pixel, per_level, corners, weights):
    """Fill `corners` and `weights`; the vertices' names, and the hash table that finds a vertex by its name."""
    height, width = frame.shape[:2]
    table = np.full(1 << 16, -1, np.int32)
    names = np.empty(table.shape[0] >> 1, np.int64)
    count = 0
    feature, place = np.empty(AXES, np.float32), np.empty(CORNERS, np.float32)
    rank, at = np.empty(CORNERS, np.int32), np.empty(CORNERS, np.int32)
    before = np.full(CORNERS, -1, np.int64)  # the pixel before this one: neighbours mostly share vertices
    for y in range(height):
        feature[1] = np.float32(y) * per_pixel
        for x in range(width):
            pixel = y * width + x
            feature[0] = np.float32(x) * per_pixel
            for channel in range(3):
                feature[2 + channel] = np.float32(frame[y, x, channel]) * per_level
            name = _simplex(feature, place, rank, at, weights[pixel])
            for corner in range(CORNERS):
                if corner > 0:
                    name += 1 - _UNIT[at[CORNERS - corner]]
                if name == before[corner]:
                    corners[pixel, corner] = corners[pixel - 1, corner]
                    continue
                before[corner] = name
                slot = _slot(name, table, names)
                if table[slot] < 0:
                    if count == names.shape[0]:
                        table, names = _grown(names)
                        slot = _slot(name, table, names)
                    table[slot] = count
                    names[count] = name
                    count += 1
                corners[pixel, corner] = table[slot]
    return names[:count].copy(), table


@kernel(void(readable(int64, 1), readable(int32, 1), writable(int32, 3)))
def _meet(names, table, neighbours):
    """Find each vertex's neighbours; those that no pixel touches are left out, as the paper leaves them out."""
    for vertex in range(names.shape[0]):
        name = names[vertex]
        for direction in range(CORNERS):
            step = _RISE[direction] if name & 7 < AXES else _WRAP[direction]
            found = table[_slot(name + step, table, names)]
            if found >= 0:
                neighbours[direction, vertex, 1] = found
                neighbours[direction, found, 0] = vertex


# Four lanes at once in locals: only so does the compiler know that no store changes what is still to be read.


@kernel(void(readable(int32, 2), readable(float32, 2), readable(float32, 2), writable(float32, 2)))
def _deal(corners, weights, pixels, values):
    """Add the pixels' values, (N, K), to their vertices', (M + 1, K); K is a multiple of `LANES`."""
    for pixel in range(corners.shape[0]):
        for corner in range(CORNERS):
            vertex, weight = np.uintp(corners[pixel, corner]), weights[pixel, corner]
            for k in range(0, values.shape[1], LANES):
                a = values[vertex, k] + weight * pixels[pixel, k]
                b = values[vertex, k + 1] + weight * pixels[pixel, k + 1]
                c = values[vertex, k + 2] + weight * pixels[pixel, k + 2]
                d = values[vertex, k + 3] + weight * pixels[pixel, k + 3]
                values[vertex, k], values[vertex, k + 1], values[vertex, k + 2], values[vertex, k + 3] = a, b, c, d


@kernel(void(readable(int32, 3), writable(float32, 2), writable(float32, 2)))
def _blur(neighbours, values, scratch):
    """(1, 2, 1) / 4 along each direction; `scratch` is as large as `values`, its last row zero too."""
    half, quarter = np.float32(0.5), np.float32(0.25)
    for direction in range(CORNERS):
        for vertex in range(neighbours.shape[1]):
            before = np.uintp(neighbours[direction, vertex, 0])
            after = np.uintp(neighbours[direction, vertex, 1])
            for k in range(0, values.shape[1], LANES):
                a = half * values[vertex, k] + quarter * (values[before, k] + values[after, k])
                b = half * values[vertex, k + 1] + quarter * (values[before, k + 1] + values[after, k + 1])
                c = half * values[vertex, k + 2] + quarter * (values[before, k + 2] + values[after, k + 2])
                d = half * values[vertex, k + 3] + quarter * (values[before, k + 3] + values[after, k + 3])
                scratch[vertex, k], scratch[vertex, k + 1] = a, b
                scratch[vertex, k + 2], scratch[vertex, k + 3] = c, d
        values, scratch = scratch, values  # an even number of times


@kernel(void(readable(int32, 2), readable(float32, 2), readable(float32, 2), writable(float32, 2)))
def _gather(corners, weights, values, pixels):
    """The pixels' values, (N, K), from their vertices'."""
    for pixel in range(corners.shape[0]):
        for k in range(0, values.shape[1], LANES):
            a = b = c = d = np.float32(0)
            for corner in range(CORNERS):
                vertex, weight = np.uintp(corners[pixel, corner]), weights[pixel, corner]
                a += weight * values[vertex, k]
                b += weight * values[vertex, k + 1]
                c += weight * values[vertex, k + 2]
                d += weight * values[vertex, k + 3]
            pixels[pixel, k], pixels[pixel, k + 1], pixels[pixel, k + 2], pixels[pixel, k + 3] = a, b, c, d
