"""A fully connected CRF: every pixel asks all others, the more so the nearer they are and the more alike they look.

Krähenbühl and Koltun 2011, "Efficient Inference in Fully Connected CRFs with Gaussian Edge Potentials", in the form in
which Chen et al. 2015 (DeepLab) put it behind a network. A labelling x costs

    sum over i of -log P(x_i)  +  sum over i < j with x_i != x_j of k(i, j)
    k(i, j) = w1 exp(-|p_i - p_j|^2 / 2a^2 - |I_i - I_j|^2 / 2b^2) + w2 exp(-|p_i - p_j|^2 / 2c^2)

with p in pixels and colours I of 255. Mean field replaces what the others are by what they are believed to be, and
repeats. As in the code that both papers were measured with, each kernel is divided by its sum at a pixel, the pixel
itself is one of those it asks, and so w1 and w2 are what full agreement around a pixel is worth beside log P.
"""

from __future__ import annotations

import math

import cv2
import msgspec
import numpy as np
from numba import float32, void

from fcn_edge.jit import kernel, readable, writable
from fcn_edge.prepare import Ending, scale
from fcn_edge.refine.large import enlarged, working_size
from fcn_edge.refine.lattice import LANES, lattice
from fcn_edge.refine.recipe import OURS, read_figures
from fcn_edge.refine.upsampling import contenders, upsampled
from fcn_edge.spec import Grid

REFERENCE = 500  # pixels of the longer side that the figures are for: a VOC picture's
MOST = 2_100_000  # pixels: 1920x1080 and everything below it is refined as it is


class CrfFigures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weights and widths of both kernels, by the names that the first paper gives them."""

    iterations: int
    appearance: float  # w1
    appearance_place: float  # a: pixels of a picture whose longer side has `REFERENCE`
    appearance_colour: float  # b: of 255
    smoothness: float  # w2
    smoothness_place: float  # c: pixels of that picture


class Crf:
    """The back end; figures: those of recipes/refine/crf.toml where none are given."""

    name = "crf"

    def __init__(self, figures: CrfFigures | None = None) -> None:
        self._figures = figures or read_figures(self.name, CrfFigures)[OURS]

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        """Labels of the frame, as `protocol.Refine` says; only classes that win somewhere before may win after."""
        classes = contenders(scores)
        if len(classes) == 1:
            return np.full(ending.labels, classes[0], np.uint8)
        size = working_size(ending.labels, MOST)
        logits = upsampled(scores[classes], ending, grid, size)
        believed = beliefs(logits, scale(frame, size), self._figures)
        return classes.astype(np.uint8)[enlarged(np.moveaxis(believed, 2, 0), ending.labels)]


def beliefs(logits: np.ndarray, frame: np.ndarray, figures: CrfFigures) -> np.ndarray:
    """What each pixel is believed to be in the end: float32 (H, W, C), every pixel's add up to 1.

    logits: float32 (C, H, W), log P but for a number that a pixel's classes share; finite.
    frame:  uint8 (H, W, 3).
    """
    classes, height, width = logits.shape
    enlargement = max(height, width) / REFERENCE
    over = lattice(frame, figures.appearance_place * enlargement, figures.appearance_colour)
    lanes = -(-classes // LANES) * LANES
    flat = logits.reshape(classes, -1)
    alike, near, believed = (np.zeros((height * width, lanes), np.float32) for _ in range(3))
    _believe(flat, alike, near, 0, 0, believed)
    vertices, scratch = over.vertices(lanes), over.vertices(lanes)
    for _ in range(figures.iterations):
        over.filter(believed, vertices, scratch, alike)
        near = cv2.GaussianBlur(
            believed.reshape(height, width, lanes),
            (0, 0),
            figures.smoothness_place * enlargement,
            borderType=cv2.BORDER_CONSTANT,
        ).reshape(-1, lanes)
        _believe(flat, alike, near, figures.appearance, figures.smoothness, believed)
    return believed.reshape(height, width, lanes)[..., :classes]


@kernel(
    void(
        readable(float32, 2),
        readable(float32, 2),
        readable(float32, 2),
        float32,
        float32,
        writable(float32, 2),
    )
)
def _believe(logits, alike, near, appearance, smoothness, believed):
    """The softmax of what the network says and of what both kernels' sums over other pixels say, so weighed.

    A kernel's own sum at a pixel is the sum of what it says of all classes, as those whom it asks believe in 1 each.
    """
    classes = logits.shape[0]
    said = np.empty(classes, np.float32)
    for pixel in range(believed.shape[0]):
        sum_alike, sum_near = np.float32(0), np.float32(0)
        for k in range(classes):
            sum_alike += alike[pixel, k]
            sum_near += near[pixel, k]
        by_alike = appearance / sum_alike if sum_alike > 0 else np.float32(0)
        by_near = smoothness / sum_near if sum_near > 0 else np.float32(0)
        highest = np.float32(-np.inf)
        for k in range(classes):
            said[k] = logits[k, pixel] + by_alike * alike[pixel, k] + by_near * near[pixel, k]
            highest = max(highest, said[k])
        total = np.float32(0)
        for k in range(classes):
            said[k] = math.exp(said[k] - highest)
            total += said[k]
        for k in range(classes):
            believed[pixel, k] = said[k] / total
