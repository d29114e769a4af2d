"""Pictures that are too large to be refined pixel by pixel: a smaller picture is, and its result enlarged.

A back end that holds all pixels at once needs some 200 bytes for each, so 5 GB for a camera's 24 million. The scores
lie so far apart there that a border is found as well on fewer pixels; only its steps of one pixel are interpolated.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np

from fcn_edge.prepare import Size


def working_size(size: Size, most: int) -> Size:
    """`size` itself, or the largest of its shape that has at most `most` pixels."""
    scale = min(1.0, (most / (size[0] * size[1])) ** 0.5)
    return (max(1, int(size[0] * scale)), max(1, int(size[1] * scale))) if scale < 1 else size


def enlarged(shares: Iterable[np.ndarray], size: Size) -> np.ndarray:
    """Which share is the largest at each pixel of `size`, uint8 (H, W); the first of equals.

    shares: float32 (h, w) for each class, interpolated one by one.
    """
    best, labels = np.full(size, -np.inf, np.float32), np.zeros(size, np.uint8)
    for number, share in enumerate(shares):
        if share.shape != size:
            share = cv2.resize(np.ascontiguousarray(share), size[::-1], interpolation=cv2.INTER_LINEAR)
        higher = share > best
        best[higher], labels[higher] = share[higher], number
    return labels
