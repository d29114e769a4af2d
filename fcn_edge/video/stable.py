"""Labels that hold still: each frame's scores are averaged with those of the frames before it.

A network sees every frame anew, so where two classes score nearly alike, noise decides: edges crawl and
patches blink. Here the scores of the frame before are moved to where their things are now, by the motion
between two small pictures, and mixed in. Where the moved picture does not look like the new one (something
came into view, or the scene was cut) the new scores stand alone, so nothing drags a ghost behind it.
Scores are mixed before they are upsampled: a 1280x720 frame has 37x65 of them a class.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numba import float32, void

from fcn_edge.decode import line
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.prepare import Ending, Size
from fcn_edge.spec import Grid

MEMORY = 0.7  # the share of what is remembered where the pictures are alike
TOLERANCE = 16.0  # gray levels of difference at which the memory counts 1/e of that
GLANCE = 160  # pixels of the longer side of the picture that motion is found in
SHORTEST = 32  # pixels of its shorter side: the pyramid of the flow needs them
SIMILAR_OVER = 3  # pixels a side of the glance that differences are averaged over: noise is no motion


class Stable:
    """Steadies the labels of one source; called by `Segmenter` with each frame's scores, in their order.

    grid:   where the scores lie on the picture, as in the model's spec.
    memory: from 0 (every frame for itself) to below 1: the share of the frames before where nothing changed.
    """

    def __init__(self, grid: Grid, memory: float = MEMORY, tolerance: float = TOLERANCE) -> None:
        self._grid: Grid = grid
        self._memory = memory
        self._tolerance = tolerance
        self._motion = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        self._motion.setFinestScale(1)
        self._before: _Before | None = None

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending) -> np.ndarray:
        """The scores to decode instead of `scores`, float32 (C, h, w); frame: uint8 (H, W, 3)."""
        glance = _glance(frame)
        laid = _Laid(scores.shape, frame.shape, ending)
        before = self._before
        steadied = np.array(scores) if before is None or before.laid != laid else self._mix(scores, glance, before)
        self._before = _Before(laid, glance, steadied)
        return steadied

    def _mix(self, scores: np.ndarray, glance: np.ndarray, before: _Before) -> np.ndarray:
        ending = before.laid.ending
        columns = _places(scores.shape[2], ending.size[1], ending.content[1], glance.shape[1], self._grid)
        rows = _places(scores.shape[1], ending.size[0], ending.content[0], glance.shape[0], self._grid)
        flow = self._motion.calc(glance, before.glance, None)  # type: ignore[call-overload]  # from here to where it was
        across, down = _grid_of(glance.shape[1], glance.shape[0])
        moved = cv2.remap(before.glance, across + flow[..., 0], down + flow[..., 1], cv2.INTER_LINEAR, borderMode=EDGE)
        difference = cv2.blur(cv2.subtract(glance, moved, dtype=cv2.CV_32F), (SIMILAR_OVER, SIMILAR_OVER))
        x, y = (
            np.broadcast_to(columns.glance, scores.shape[1:]),
            np.broadcast_to(rows.glance[:, None], scores.shape[1:]),
        )
        flow = cv2.remap(flow, x, y, cv2.INTER_LINEAR, borderMode=EDGE)
        difference = cv2.remap(difference, x, y, cv2.INTER_LINEAR, borderMode=EDGE)
        share = np.float32(self._memory) * np.exp(-np.square(difference * np.float32(1 / self._tolerance)))
        steadied = np.empty(scores.shape, np.float32)
        was_down = rows.index[:, None] + rows.scale * flow[..., 1]
        was_across = columns.index + columns.scale * flow[..., 0]
        _remember(np.require(scores, requirements=["C", "A"]), before.scores, was_down, was_across, share, steadied)
        return steadied


EDGE = cv2.BORDER_REPLICATE


class _Laid(NamedTuple):
    """What must not change for scores to be comparable."""

    scores: tuple[int, ...]
    frame: tuple[int, ...]
    ending: Ending


class _Before(NamedTuple):
    laid: _Laid
    glance: np.ndarray
    scores: np.ndarray  # steadied


class _Places(NamedTuple):
    """Where the samples of one axis lie."""

    index: np.ndarray  # float32, 0, 1, ...
    glance: np.ndarray  # float32, in pixels of the glance
    scale: np.float32  # samples to a pixel of the glance


@lru_cache(maxsize=16)
def _places(samples: int, pixels: int, content: int, side: int, grid: Grid) -> _Places:
    """samples: scores on `pixels`, of which the first `content` are the frame, which is `side` pixels in the glance."""
    start, rise, unit = line(samples, pixels, grid)
    index = np.arange(samples, dtype=np.float32)
    pixel = (index * unit - start) / rise if rise else np.full(samples, (pixels - 1) / 2)
    glance = ((pixel + 0.5) * (side / content) - 0.5).astype(np.float32)
    return _Places(index, glance, np.float32(rise / unit * content / side))


@lru_cache(maxsize=8)
def _grid_of(width: int, height: int) -> tuple[np.ndarray, np.ndarray]:
    """The x and the y of every pixel, float32 (height, width)."""
    across, down = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    return across, down


def _glance(frame: np.ndarray) -> np.ndarray:
    """A small gray picture of the frame, uint8; of the green alone, which most of a camera's light is."""
    height, width = frame.shape[:2]
    step = max(1, max(height, width) // (2 * GLANCE))
    sampled = np.ascontiguousarray(frame[::step, ::step, 1])
    return cv2.resize(sampled, _glance_size(height, width)[::-1], interpolation=cv2.INTER_AREA)


def _glance_size(height: int, width: int) -> Size:
    longer = max(height, width)
    return max(SHORTEST, round(GLANCE * height / longer)), max(SHORTEST, round(GLANCE * width / longer))


@kernel(
    void(
        readable(float32, 3),
        readable(float32, 3),
        readable(float32, 2),
        readable(float32, 2),
        readable(float32, 2),
        writable(float32, 3),
    )
)
def _remember(scores, memory, was_down, was_across, share, out):
    """out = scores, with `share` of what the memory holds where each sample was; what is not finite is not mixed."""
    classes, height, width = scores.shape
    flat = memory.reshape(classes, height * width)
    # Unsigned: numba would test signed ones for indices from the end.
    corners = np.empty((4, width), np.uintp)
    weights = np.empty((5, width), np.float32)
    one, half = np.float32(1), np.float32(0.5)
    for y in range(height):
        for x in range(width):
            row, column, part = was_down[y, x], was_across[y, x], share[y, x]
            if not (-half <= row <= height - half and -half <= column <= width - half):
                row = column = part = np.float32(0)  # it came into view, or its motion is not a number
            row = min(max(row, np.float32(0)), np.float32(height - 1))
            column = min(max(column, np.float32(0)), np.float32(width - 1))
            top, left = int(row), int(column)
            bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
            v, h = row - np.float32(top), column - np.float32(left)
            corners[0, x], corners[1, x] = np.uintp(top * width + left), np.uintp(top * width + right)
            corners[2, x], corners[3, x] = np.uintp(bottom * width + left), np.uintp(bottom * width + right)
            weights[0, x], weights[1, x] = part * (one - v) * (one - h), part * (one - v) * h
            weights[2, x], weights[3, x] = part * v * (one - h), part * v * h
            weights[4, x] = one - part
        for k in range(classes):
            for x in range(width):
                mixed = weights[4, x] * scores[k, y, x]
                for corner in range(4):
                    mixed += weights[corner, x] * flat[k, corners[corner, x]]
                out[k, y, x] = mixed if abs(mixed) < np.inf else scores[k, y, x]
