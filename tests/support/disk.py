"""A disk whose edge the frame has and the scores have not: what a back end of `--refine` is for."""

from __future__ import annotations

import cv2
import numpy as np


def blurred_disk() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A frame, uint8 (120, 160, 3); the class of each pixel, 0 or 7; scores 20 pixels apart, float32 (21, 6, 8)."""
    frame = np.full((120, 160, 3), (90, 130, 80), np.uint8)
    truth = np.zeros((120, 160), np.uint8)
    cv2.circle(truth, (80, 60), 33, 7, -1)
    frame[truth == 7] = (40, 60, 190)
    coarse = cv2.resize((truth == 7).astype(np.float32), (8, 6), interpolation=cv2.INTER_AREA)
    scores = np.full((21, 6, 8), -9, np.float32)
    scores[0], scores[7] = 3 - 6 * coarse, 6 * coarse - 3
    return frame, truth, scores
