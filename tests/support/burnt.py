"""Numbers burnt into pictures as black and white squares, which survive H.264 and JPEG."""

from __future__ import annotations

import numpy as np

BITS = 24
SIDE = 8  # pixels of a square; a codec's block


def burn(image: np.ndarray, row: int, number: int) -> None:
    """Draws the low bits of `number` from the left, in the given row of squares."""
    for bit in range(BITS):
        square = image[row * SIDE : (row + 1) * SIDE, bit * SIDE : (bit + 1) * SIDE]
        square[:] = 255 * (number >> bit & 1)


def burnt(image: np.ndarray, row: int) -> int:
    """The number that stands in this row of squares."""
    number = 0
    for bit in range(BITS):
        square = image[row * SIDE + 2 : (row + 1) * SIDE - 2, bit * SIDE + 2 : (bit + 1) * SIDE - 2]
        number |= int(square.mean() > 127) << bit
    return number
