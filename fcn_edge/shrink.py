"""Scaling a frame down by averaging, as OpenCV's INTER_AREA does, in a fifth of its time.

A camera's frame has several times the network's pixels, so this reads more memory than anything else on
the frame's way. OpenCV is fast where the factor is a whole number, which it is for no network side of
32k+1. Summing rows first keeps the inner loop on consecutive floats.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numba import float32, int32, uint8, void

from fcn_edge.jit import kernel, readable, writable


def shrink(frame: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """`frame`, uint8 (H, W, 3), averaged down to `size` (h, w), neither side growing. At most 1 level off the mean."""
    rows, columns = frame.shape[:2]
    first_row, row_weight = _taps(rows, size[0])
    first_column, column_weight = _taps(columns, size[1])
    out = np.empty((*size, 3), np.uint8)
    lines = np.ascontiguousarray(frame).reshape(rows, columns * 3)
    _shrink(lines, first_row, row_weight, first_column, column_weight, out)
    return out


@lru_cache(maxsize=16)
def _taps(samples: int, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """The first sample under each pixel, int32 (pixels,), and the share of each sample in it, float32 (pixels, k)."""
    start = np.arange(pixels, dtype=np.int64) * samples  # in units of 1/pixels of a sample: exact
    first = start // pixels
    count = -(-samples // pixels) + 1
    left = (first[:, None] + np.arange(count)) * pixels
    overlap = np.minimum(left + pixels, start[:, None] + samples) - np.maximum(left, start[:, None])
    weight = (overlap.clip(0) / samples).astype(np.float32)
    first.setflags(write=False)
    weight.setflags(write=False)
    return first.astype(np.int32), weight


@kernel(
    void(
        readable(uint8, 2),
        readable(int32, 1),
        readable(float32, 2),
        readable(int32, 1),
        readable(float32, 2),
        writable(uint8, 3),
    )
)
def _shrink(lines, first_row, row_weight, first_column, column_weight, out):
    height, width = out.shape[0], out.shape[1]
    samples = lines.shape[1]
    total = np.zeros(samples + 3, np.float32)  # the last pixel's last tap lies beyond the row, with a share of 0
    for y in range(height):
        total[:samples] = np.float32(0)
        for k in range(row_weight.shape[1]):
            share = row_weight[y, k]
            if share > 0:  # beyond the last row it is 0
                line = lines[first_row[y] + k]
                for i in range(samples):
                    total[i] += share * np.float32(line[i])
        for x in range(width):
            blue = green = red = np.float32(0.5)  # rounds when the fraction is cut off
            for k in range(column_weight.shape[1]):
                share = column_weight[x, k]
                at = (first_column[x] + k) * 3
                blue += share * total[at]
                green += share * total[at + 1]
                red += share * total[at + 2]
            out[y, x, 0], out[y, x, 1], out[y, x, 2] = np.uint8(blue), np.uint8(green), np.uint8(red)
