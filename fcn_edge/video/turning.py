"""Pictures turned or mirrored, for cameras that hang upside down or look through a mirror."""

from __future__ import annotations

import cv2
import numpy as np

ROTATIONS = {"90": cv2.ROTATE_90_CLOCKWISE, "180": cv2.ROTATE_180, "270": cv2.ROTATE_90_COUNTERCLOCKWISE}
MIRRORS = {"horizontal": 1, "vertical": 0}
QUARTERS = ("90", "270")


def turn(image: np.ndarray, flip: str, out: np.ndarray | None = None) -> np.ndarray:
    """`image` (uint8 (H, W, 3)) as `flip` (one of options.FLIPS) says, in `out` where it is given."""
    if flip in MIRRORS:
        return cv2.flip(image, MIRRORS[flip], out)
    return cv2.rotate(image, ROTATIONS[flip], out)


def turned_size(size: tuple[int, int], flip: str) -> tuple[int, int]:
    """(H, W) after `turn`."""
    return (size[1], size[0]) if flip in QUARTERS else size
