"""`demo:` is a moving view over the photos that travel with fcn-edge, without end.

It is what a first run shows where there is no camera and no video at hand. The path depends on the
frame's number alone, so that two runs see the same frames.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import cv2
import numpy as np

from fcn_edge import resources
from fcn_edge.errors import SourceError
from fcn_edge.video.frames import Frame
from fcn_edge.video.pictures import read_picture

SIZE = (720, 1280)
RATE = Fraction(30)
FRAMES_A_PHOTO = 150
DEEPEST_ZOOM = 1.5


class DemoSource:
    """An endless pan and zoom, 1280x720 at 30 frames a second unless another size and rate are asked for."""

    uri = "demo:"
    live = False
    still = False
    total: int | None = None
    pixel_aspect = Fraction(1)
    dropped = 0
    reconnects = 0
    lost_since: float | None = None
    trouble: str | None = None

    def __init__(self, size: tuple[int, int] = SIZE, rate: Fraction = RATE) -> None:
        self.size: tuple[int, int] | None = size
        self.rate: Fraction | None = rate
        self.time_base: Fraction | None = 1 / rate
        self._shown, self._step = size, 1 / rate
        self.files = resources.demo_photos()
        self.photos = [read_picture(path) for path in self.files]
        if not self.photos:
            raise SourceError(f"{resources.folder('examples')}: the demo photos are missing. Install fcn-edge again.")
        self.problems: list[str] = []
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        sequence = 0
        while True:
            photo = self.photos[sequence // FRAMES_A_PHOTO % len(self.photos)]
            image = _view(photo, sequence % FRAMES_A_PHOTO / FRAMES_A_PHOTO, self._shown)
            yield Frame(image, sequence, sequence * self._step, f"demo_{sequence:06d}", self._step)
            sequence += 1

    def __enter__(self) -> DemoSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        pass


def _view(photo: np.ndarray, phase: float, size: tuple[int, int]) -> np.ndarray:
    """What the camera sees at `phase` (0 to 1) of its loop over `photo`, (H, W) as `size` says: always inside it."""
    height, width = photo.shape[:2]
    angle = 2 * math.pi * phase
    zoom = 1 + (DEEPEST_ZOOM - 1) * (1 - math.cos(angle)) / 2
    scale = zoom * max(size[0] / height, size[1] / width)
    free_y, free_x = height - size[0] / scale, width - size[1] / scale
    top, left = free_y * (1 - math.cos(angle)) / 2, free_x * (1 + math.sin(angle)) / 2
    to_view = np.array([[scale, 0, -left * scale], [0, scale, -top * scale]])
    return cv2.warpAffine(photo, to_view, size[::-1], flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
