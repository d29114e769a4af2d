"""Scores that flow along the frame's colours and stop at its edges, fast enough for live video.

On a small picture of the frame every pixel asks those around it which class they are of. An answer fades with each step
and more so with each change of colour on its way, so what is asked in the end is the patch of like colour that the
pixel lies in. What it says is added to the pixel's own scores. Distances are those of the domain transform (Gastal and
Oliveira 2011, "Domain Transform for Edge-Aware Image and Video Processing"), along rows and columns in turn, but with
squared changes of colour, which grain adds little to; Chen et al. 2016 put that behind a network. Answers are summed
and divided by their sum here, where those papers' recursion lets the first pixel of a patch count as much as all that
follow: beside an edge those are the ones that are wrong. An answer is all but a single class: if doubtful pixels gave
shares, whatever the network is unsure of would shrink.
"""

from __future__ import annotations

import math
from typing import ClassVar

import cv2
import numpy as np
from numba import float32, int32, uint8, void

from fcn_edge.decode import decode
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.prepare import Ending, Size, scale
from fcn_edge.refine.upsampling import finite, upsampled
from fcn_edge.spec import Grid

LONGER_SIDE = 240  # pixels of the small picture, about; finer ones see grain, and a soft edge as many small changes
COLORS = 3 * 255 + 1  # differences that two pixels may have, over three channels


class Guided:
    """The back end. The defaults were chosen by benchmarks/refine.py on pictures held back from training.

    weight: of what the patch says, against the network's own scores, in units of those.
    reach:  in pixels of the small picture, where nothing stops it.
    color:  difference of neighbours, summed over three channels, that costs as much as that whole reach; half of it
            costs a quarter.
    sharp:  how much more of a pixel's answer goes to its likeliest class than the network's scores say.
    passes: over rows and columns; each reaches half as far as the one before.
    """

    name: ClassVar[str] = "guided"

    def __init__(
        self, weight: float = 4.0, reach: float = 30.0, color: float = 60.0, sharp: float = 4.0, passes: int = 2
    ) -> None:
        self._weight, self._sharp = np.float32(weight), np.float32(sharp)
        self._passes = passes
        sigma = reach * math.sqrt(3) * 2 ** (passes - 1) / math.sqrt(4**passes - 1)
        steps = 1 + reach * np.square(np.arange(COLORS) / color)
        self._kept = np.exp(-math.sqrt(2) / sigma * steps).astype(np.float32)  # of an answer from one pixel to the next

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        """Labels of the frame, as `protocol.Refine` says; of the classes that have the highest of some scores."""
        scores = finite(scores)
        classes = np.unique(scores.argmax(axis=0)).astype(np.uint8)
        if len(classes) == 1:
            return np.full(ending.labels, classes[0], np.uint8)
        small = np.ascontiguousarray(scale(frame, small_size(ending.labels)))
        own = upsampled(scores[classes], ending, grid, (small.shape[0], small.shape[1]))
        own += self._weight * self._spread(_softmax(self._sharp * own), small)
        return classes[decode(own, ending.labels)]

    def _spread(self, shares: np.ndarray, small: np.ndarray) -> np.ndarray:
        """What the patch around each pixel says: float32 (K, h, w) like `shares`, which it may overwrite."""
        count, height, width = shares.shape
        down, across = np.empty((height, width), np.float32), np.empty((width, height), np.float32)
        _compare(small, self._kept, down, across)
        turned, summed = np.empty((2, count, width, height), np.float32)
        for number in range(self._passes):
            if number:
                np.square(down, out=down)  # half as far
                np.square(across, out=across)
            _turn(shares, turned)
            _run_down(turned, across, summed)
            _turn(summed, shares)
            out = summed.reshape(shares.shape)
            _run_down(shares, down, out)
            np.divide(out, out.sum(axis=0), out=shares)  # a pixel's shares added up to 1, so their sum is the weight
        return shares


def small_size(frame: Size) -> Size:
    """The frame's, divided by a whole number: then no pixel of the small picture lies across two of the frame."""
    step = max(1, round(max(frame) / LONGER_SIDE))
    return max(1, round(frame[0] / step)), max(1, round(frame[1] / step))


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = np.exp(scores - scores.max(axis=0))
    shares /= shares.sum(axis=0)
    return shares


def _turn(planes: np.ndarray, turned: np.ndarray) -> None:
    """Rows become columns, in OpenCV's tenth of numpy's time."""
    for plane, out in zip(planes, turned, strict=True):
        cv2.transpose(plane, out)


@kernel(void(readable(uint8, 3), readable(float32, 1), writable(float32, 2), writable(float32, 2)))
def _compare(picture, kept, down, across):
    """What is kept from a pixel to the one below it, and to the one right of it, that turned."""
    height, width = down.shape
    for y in range(height):
        below = min(y + 1, height - 1)
        for x in range(width):
            right = min(x + 1, width - 1)
            vertical = horizontal = int32(0)
            for channel in range(3):
                here = int32(picture[y, x, channel])
                vertical += abs(int32(picture[below, x, channel]) - here)
                horizontal += abs(int32(picture[y, right, channel]) - here)
            down[y, x] = kept[vertical]
            across[x, y] = kept[horizontal]


@kernel(void(readable(float32, 3), readable(float32, 2), writable(float32, 3)))
def _run_down(planes, kept, out):
    """The sum of each column from every pixel of it, by what is kept on the way there: once down and once up."""
    count, height, width = planes.shape
    carried = np.empty(width, np.float32)
    for k in range(count):
        for x in range(width):
            out[k, 0, x] = planes[k, 0, x]
            carried[x] = np.float32(0)
        for y in range(1, height):
            for x in range(width):
                out[k, y, x] = planes[k, y, x] + kept[y - 1, x] * out[k, y - 1, x]
        for y in range(height - 2, -1, -1):
            for x in range(width):
                carried[x] = kept[y, x] * (carried[x] + planes[k, y + 1, x])
                out[k, y, x] += carried[x]
