"""A picture's rows from its top to its bottom, each decoded once, without the picture in memory.

libvips decodes JPEG, PNG, TIFF and what else it knows as it is asked for rows. A file that is stored otherwise than it
is shown (interlaced, progressive, or turned by its EXIF orientation) has to be decoded whole first: libvips then puts
it into a temporary file, except for a progressive JPEG, whose coefficients its decoder keeps in memory.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from fcn_edge.errors import SourceError
from fcn_edge.prepare import Size
from fcn_edge.video.pictures import read_picture

WHOLE = 64_000_000  # pixels up to which a picture is decoded at once, as everywhere else: 192 MB
BLOCK = 64  # rows that libvips hands over at once
INSTALL = "pip install -e '.[giant]'"


class Rows(Protocol):
    """Rows of a picture. Each call begins and ends no higher than the one before it."""

    size: Size

    def read(self, first: int, last: int) -> np.ndarray:
        """The rows from `first` to before `last`: uint8 (n, W, 3) BGR, not to be written to. Raises SourceError."""
        ...


def open_rows(path: Path) -> Rows:
    """The picture at `path`, upright, in 8-bit colour without alpha. Raises SourceError."""
    size = _stored_size(path)
    if size is not None and size[0] * size[1] <= WHOLE:
        return _Decoded(read_picture(path))
    return _Streamed(path)


class _Decoded:
    """A picture that is small enough."""

    def __init__(self, picture: np.ndarray) -> None:
        self.picture = picture
        self.size = picture.shape[0], picture.shape[1]

    def read(self, first: int, last: int) -> np.ndarray:
        return self.picture[first:last]


class _Streamed:
    """A window of rows that moves down the picture."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.vips = _import_vips(path)
        image = self._open()
        self.size: Size = image.height, image.width
        self.region = self.vips.Region.new(image)
        self.window = np.empty((0, image.width, 3), np.uint8)
        self.top = 0  # row of the picture that the window begins with

    def read(self, first: int, last: int) -> np.ndarray:
        reached = self.top + len(self.window)
        window = np.empty((last - first, *self.window.shape[1:]), np.uint8)
        if first < reached:
            window[: reached - first] = self.window[first - self.top :]
        for start in range(reached, last, BLOCK):  # also rows that nobody wants: they lie in the way
            block = self._fetch(start, min(BLOCK, last - start))
            if start + len(block) > first:
                begin = max(first, start)
                window[begin - first : start + len(block) - first] = block[begin - start :]
        self.window, self.top = window, first
        return window

    def _fetch(self, start: int, count: int) -> np.ndarray:
        try:
            data = self.region.fetch(0, start, self.size[1], count)
        except self.vips.Error as error:
            raise SourceError(f"{self.path}: row {start} and on cannot be read: {_line(error)}.") from error
        return np.frombuffer(data, np.uint8).reshape(count, self.size[1], 3)[..., ::-1]

    def _open(self) -> Any:
        name = str(self.path)
        try:
            image = self.vips.Image.new_from_file(name, access="sequential", fail_on="truncated")
            if image.get_typeof("orientation") and image.get("orientation") > 1:
                image = self.vips.Image.new_from_file(name, fail_on="truncated").autorot()
            return _in_colour(image)
        except self.vips.Error as error:
            raise SourceError(f"{self.path}: is not a picture that can be read: {_line(error)}.") from error


def _in_colour(image: Any) -> Any:
    """8-bit R, G, B: 16-bit pictures lose their low byte, transparent ones their alpha, as in `read_picture`."""
    if image.hasalpha():
        image = image.extract_band(0, n=image.bands - 1)
    if image.interpretation == "multiband" or image.bands > 4:  # a satellite's: the first three
        image = image.extract_band(0, n=min(3, image.bands))
        image = image.copy(interpretation=("rgb16" if image.format == "ushort" else "srgb"))
    image = image.colourspace("srgb")
    if image.bands == 1:
        image = image.bandjoin([image, image])
    return image.cast("uchar") if image.format != "uchar" else image


def _stored_size(path: Path) -> Size | None:
    """(H, W) as the head of the file says; None where Pillow does not know the format or finds it too large to say."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                return image.height, image.width
    except Image.DecompressionBombError:
        return None
    except OSError:  # a format of OpenCV's alone, or no picture: it says which
        return 0, 0


def _import_vips(path: Path) -> Any:
    try:
        import pyvips
    except (ImportError, OSError) as error:  # OSError: the package is there, the library is not
        raise SourceError(
            f"{path}: a picture of more than {WHOLE // 10**6} million pixels is read by rows, which pyvips does. "
            f"In a checkout of fcn-edge: {INSTALL}"
        ) from error
    pyvips.cache_set_max(0)  # operations are not repeated, and it would keep their rows
    return pyvips


def _line(error: Exception) -> str:
    """libvips says several lines, the most telling one first."""
    lines = [line.strip() for line in str(getattr(error, "detail", error)).splitlines() if line.strip()]
    return (lines[0] if lines else str(error)).rstrip(".")
