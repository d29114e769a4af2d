"""Photos as frames: read whole, upright, in 8-bit colour, whatever they were saved as."""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np

from fcn_edge.errors import SourceError
from fcn_edge.video.frames import Frame

# OpenCV's own limit, which it reads when it is imported; fcn-edge's command line sets a lower one.
MAX_PIXELS = int(os.environ.get("OPENCV_IO_MAX_IMAGE_PIXELS", 1 << 30))
PICTURES = (
    *(".avif", ".bmp", ".dib", ".jp2", ".jpe", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".pnm", ".ppm"),
    *(".tif", ".tiff", ".webp"),
)
PICTURE_RATE = Fraction(25)  # pictures a second where a folder of them becomes a video; what ffmpeg takes


def read_picture(path: Path) -> np.ndarray:
    """The picture at `path` as uint8 (H, W, 3) BGR, upright, without alpha. Raises SourceError."""
    return decode_picture(path, read_bytes(path))


def read_bytes(path: Path) -> np.ndarray:
    """What is in the file, uint8 (N,), as `decode_picture` takes it. Raises SourceError."""
    try:
        return np.fromfile(path, np.uint8)  # not cv2.imread: it cannot tell a missing file from a broken one
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}.") from error


def decode_picture(path: Path, data: np.ndarray) -> np.ndarray:
    """The picture in `data`, which was read from `path`, as uint8 (H, W, 3) BGR, upright, without alpha.

    OpenCV turns gray, palette, CMYK and 16-bit pictures into 8-bit colour. Raises SourceError.
    """
    if not data.size:
        raise SourceError(f"{path}: is empty (0 bytes).")
    if _png_is_cut_off(data):
        raise SourceError(f"{path}: this PNG is cut off after {data.size} bytes.")
    try:
        image = cv2.imdecode(data, cv2.IMREAD_COLOR)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise SourceError(
                f"{path}: has more than {MAX_PIXELS // 10**6} million pixels, the limit. "
                "Take fcn-edge run --resize tiles, or set OPENCV_IO_MAX_IMAGE_PIXELS to as many pixels as memory holds."
            ) from error
        raise SourceError(f"{path}: cannot be decoded: {error.err}.") from error
    if image is None:
        raise SourceError(f"{path}: is not a picture that can be read, or is broken.")
    return image


class PictureSource:
    """Photos, one after the other; a broken one is named in `problems` and skipped."""

    live = False
    still = True
    size: tuple[int, int] | None = None
    rate: Fraction | None = PICTURE_RATE
    time_base: Fraction | None = 1 / PICTURE_RATE
    pixel_aspect = Fraction(1)
    dropped = 0
    reconnects = 0
    lost_since: float | None = None
    trouble: str | None = None

    def __init__(self, uri: str, paths: list[Path]) -> None:
        self.uri = uri
        self.files = paths
        self.total: int | None = len(paths)
        self.problems: list[str] = []
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Frame]:
        stems = [path.stem for path in self.files]
        sequence = 0
        for path in self.files:
            try:
                image = read_picture(path)
            except SourceError as error:
                if len(self.files) == 1:
                    raise
                self.problems.append(str(error))
                continue
            name = path.stem if stems.count(path.stem) == 1 else path.name
            yield Frame(image, sequence, sequence / PICTURE_RATE, name, 1 / PICTURE_RATE)
            sequence += 1

    def __enter__(self) -> PictureSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        pass


def _png_is_cut_off(data: np.ndarray) -> bool:
    """Whether a PNG lacks its last chunk: asked here, because libpng would print its own line about it."""
    return data[:8].tobytes() == b"\x89PNG\r\n\x1a\n" and b"IEND" not in data[-4096:].tobytes()
