"""Scores upsampled onto the frame, or onto a smaller picture of it, by `decode`'s own arithmetic.

So the argmax of `upsampled` is what `decode` gives, pixel for pixel, and a back end that changes no score changes no
label. One exception: where `decode` works at the network's size and its labels are stretched to the frame's, scores are
here interpolated down to the frame's pixels, which leaves no steps.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import float32, int32, uint8, void

from fcn_edge.decode import line
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.prepare import Ending, Size
from fcn_edge.spec import Grid

LIMIT = np.float32(1e30)  # in place of what is not finite: lower or higher than any score, and it can be interpolated


class Places(NamedTuple):
    """Where the pixels of one axis lie on the samples."""

    before: np.ndarray  # int32 a pixel: the sample before it
    after: np.ndarray  # int32 a pixel: the one after; the same at the last sample
    weight: np.ndarray  # float32 a pixel, in [0, 1): of the one after


@lru_cache(maxsize=32)
def places(samples: int, pixels: int, content: int, side: int, grid: Grid) -> Places:
    """Where `side` pixels that cover the frame lie on `samples` scores.

    The scores lie on `pixels` pixels, the first `content` of which are the frame; both as `Ending` has them.
    Raises SpecError if the grid does not fit.
    """
    start, rise, unit = line(samples, pixels, grid)
    pixel = (2 * np.arange(side, dtype=np.int64) + 1) * content - side  # in units of 1 / (2 * side)
    unit *= 2 * side
    position = (start * 2 * side + pixel * rise).clip(0, (samples - 1) * unit)
    before, rest = np.divmod(position, unit)
    found = Places(
        before.astype(np.int32),
        np.minimum(before + 1, samples - 1).astype(np.int32),
        (rest / unit).astype(np.float32),
    )
    for each in found:
        each.setflags(write=False)  # it is kept for the next frame
    return found


def upsampled(scores: np.ndarray, ending: Ending, grid: Grid, size: Size | None = None) -> np.ndarray:
    """Scores on every pixel of the frame, or of a picture of it: float32 (C, *size).

    scores: float32 (C, h, w) of any classes, as a back end gets them; pass those that matter alone.
    size:   (H, W) of the picture that covers the frame; None: the frame's own.
    What is not finite comes out as +-1e30 or between that and its neighbours; NaN counts as the lowest.
    """
    rows, columns = places_of(scores, ending, grid, ending.labels if size is None else size)
    out = np.empty((len(scores), len(rows.weight), len(columns.weight)), np.float32)
    _upsample(finite(scores), *rows, *columns, out)
    return out


def places_of(scores: np.ndarray, ending: Ending, grid: Grid, size: Size) -> tuple[Places, Places]:
    """Where the rows and columns of a picture of `size` that covers the frame lie on scores (C, h, w)."""
    rows = places(scores.shape[-2], ending.size[0], ending.content[0], size[0], grid)
    return rows, places(scores.shape[-1], ending.size[1], ending.content[1], size[1], grid)


def finite(scores: np.ndarray) -> np.ndarray:
    """C-contiguous scores with finite values in place of others, none beyond +-1e30; the same array where it can be."""
    scores = np.require(scores, requirements=["C", "A"])
    if np.abs(scores).max() <= LIMIT:  # not where one is NaN
        return scores
    return np.clip(np.nan_to_num(scores, nan=-LIMIT), -LIMIT, LIMIT)


def contenders(scores: np.ndarray) -> np.ndarray:
    """The classes that may win somewhere once upsampled, in ascending order: intp (K,), 1 <= K <= C.

    Of the others the highest of the four scores around a pixel is below what the winners there have at least, so
    leaving them out changes no label. scores: float32 (C, h, w).
    """
    scores = finite(scores)
    wins = np.zeros(len(scores), np.uint8)
    _contend(scores, wins)
    return np.flatnonzero(wins)


@kernel(
    void(
        readable(float32, 3),
        readable(int32, 1),
        readable(int32, 1),
        readable(float32, 1),
        readable(int32, 1),
        readable(int32, 1),
        readable(float32, 1),
        writable(float32, 3),
    )
)
def _upsample(scores, above, below, down, left, right, across, out):
    """Down first, then across, each as a weighted sum of two: the order in which `decode` rounds."""
    one = np.float32(1)
    mixed = np.empty(scores.shape[2], np.float32)
    for k in range(out.shape[0]):
        for y in range(out.shape[1]):
            weight = down[y]
            top, bottom = scores[k, above[y]], scores[k, below[y]]
            for i in range(mixed.shape[0]):
                mixed[i] = (one - weight) * top[i] + weight * bottom[i]
            for x in range(out.shape[2]):
                out[k, y, x] = (one - across[x]) * mixed[left[x]] + across[x] * mixed[right[x]]


@kernel(void(readable(float32, 3), writable(uint8, 1)))
def _contend(scores, wins):
    """Mark the classes whose score at one corner of a cell reaches the mean of the corners' winners there.

    That mean is nowhere in the cell above the best of them, so a class below it at all four corners wins nowhere.
    """
    classes, height, width = scores.shape
    quarter = np.float32(0.25)
    best = np.zeros((height, width), np.int32)
    for k in range(classes):
        for y in range(height):
            for x in range(width):
                if scores[k, y, x] > scores[best[y, x], y, x]:
                    best[y, x] = k
    for y in range(height):
        for x in range(width):
            below, beside = min(y + 1, height - 1), min(x + 1, width - 1)
            a, b, c, d = best[y, x], best[y, beside], best[below, x], best[below, beside]
            wins[a] = 1
            if a == b and a == c and a == d:
                continue
            for corner in range(4):
                row = below if corner >= 2 else y
                column = beside if corner % 2 else x
                mean = (quarter * scores[a, row, column] + quarter * scores[b, row, column]) + (
                    quarter * scores[c, row, column] + quarter * scores[d, row, column]
                )
                for k in range(classes):
                    if scores[k, row, column] >= mean:
                        wins[k] = 1
