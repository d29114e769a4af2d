"""Frames and labels as files that a browser opens.

The page gets the frame and its labels apart and lays one over the other itself, so that each onlooker has views and
opacity of his own and the pipeline draws for none of them. Labels travel as a gray PNG: the level is the class.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from fcn_edge.segmenter import Segmentation
from fcn_edge.video.painter import Painter
from fcn_edge.video.sinks import Result

SHOWN_SIDE = 1280  # pixels of a picture's longer side on the page; downloads keep the frame's own
JPEG_SIDE = 65_500  # the format's limit
SHOWN_QUALITY, KEPT_QUALITY = 80, 92
GRAY, INDEXED = 0, 3  # colour types of PNG


@dataclass(frozen=True)
class Shown:
    """A result for the page: JPEG and gray PNG of one size."""

    result: Result
    jpeg: bytes
    mask: bytes


def shown(result: Result) -> Shown:
    size = _within(result.labels.shape, SHOWN_SIDE)
    labels = _scaled(result.labels, size, cv2.INTER_NEAREST_EXACT)
    return Shown(result, jpeg(result.frame.image, SHOWN_QUALITY, SHOWN_SIDE), gray_png(labels))


def drawn(result: Result, painter: Painter, lost_for: float | None) -> bytes:
    """What the other sinks show, as JPEG, with a notice where the source has been lost for so many seconds."""
    picture = _picture(result, painter)
    if lost_for is not None:
        picture = painter.notice(picture, f"no signal for {lost_for:.0f} s")
    return jpeg(picture, SHOWN_QUALITY, SHOWN_SIDE)


def kept(result: Result, painter: Painter) -> bytes:
    """The same as a file to keep, at the frame's own size."""
    return jpeg(_picture(result, painter), KEPT_QUALITY, JPEG_SIDE)


def _picture(result: Result, painter: Painter) -> np.ndarray:
    """The pipeline's own picture where it made one."""
    if result.picture is not None:
        return result.picture
    segmentation = Segmentation(result.labels, None, result.seconds, painter.spec, result.frame.image)
    return painter.draw(segmentation, result.labels, result.shares, "")


def jpeg(image: np.ndarray, quality: int, side: int) -> bytes:
    """uint8 (H, W, 3) BGR as JPEG, scaled down to have no side longer than this."""
    image = _scaled(image, _within(image.shape[:2], side), cv2.INTER_LINEAR)  # by area it takes five times as long
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def gray_png(labels: np.ndarray) -> bytes:
    """uint8 (H, W) labels as gray levels."""
    return _png(labels, GRAY, b"")


def palette_png(labels: np.ndarray, palette: tuple[tuple[int, int, int], ...]) -> bytes:
    """uint8 (H, W) labels as VOC keeps its masks: the pixel is the class, the palette (RGB) its colour."""
    colours = bytes(value for color in palette for value in color)
    return _png(labels, INDEXED, _chunk(b"PLTE", colours + b"\xff" * (3 * 256 - len(colours))))


def _png(labels: np.ndarray, kind: int, palette: bytes) -> bytes:
    """A PNG file of bytes as they are, each row behind the 0 of the filter that does nothing.

    1.4 ms at 1280x720, where OpenCV 5 takes 10 and Pillow 4: what they look for, labels do not have.
    """
    height, width = labels.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = labels
    header = struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0)
    data = zlib.compress(rows.tobytes(), 1)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + palette + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(content, zlib.crc32(kind)))


def _within(size: tuple[int, ...], side: int) -> tuple[int, int]:
    """(H, W) scaled down to have no side longer than this; at least one pixel."""
    height, width = size
    scale = min(1.0, side / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _scaled(image: np.ndarray, size: tuple[int, int], interpolation: int) -> np.ndarray:
    return image if image.shape[:2] == size else cv2.resize(image, size[::-1], interpolation=interpolation)
