"""Scores that follow the frame's colours, fast enough for live video: the guided filter on a small picture.

In a window around each pixel what the network believes of a class is fitted by a straight line in the picture's colours
(He, Sun and Tang 2013, "Guided Image Filtering", its colour form). Where the window holds an edge the line steps where
the colours do, and the network's blurred step goes there with it. The lines are found on a picture of about
100 pixels a side, and only followed on a larger one (He and Sun 2015, "Fast Guided Filter"). What they say is added to
the network's own scores, and asked again: the answers of one turn are what the next turn's lines are fitted to, as in a
mean field.
"""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np
from numba import float32, int32, uint8, void

from fcn_edge.decode import decode
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.prepare import Ending, Size, scale
from fcn_edge.refine.upsampling import finite, places, upsampled
from fcn_edge.spec import Grid

COARSE = 104  # pixels of the longer side of the picture that lines are fitted on
FINE = 400  # the same, about, of the one that they are followed on: at a third of 1280x720 an edge is where it was


class Guided:
    """The back end. The defaults were chosen by benchmarks/refine.py on pictures held back from training.

    weight: of what the lines say, a share in [0, 1], against the network's own scores.
    radius: of the window, in pixels of the coarse picture.
    color:  deviation of colours in a window, in levels of 255, below which they are taken for grain.
    turns:  how often lines are fitted.
    """

    name: ClassVar[str] = "guided"

    def __init__(self, weight: float = 8.0, radius: int = 6, color: float = 2.5, turns: int = 3) -> None:
        self._weight, self._turns = np.float32(weight), turns
        self._window = 2 * radius + 1, 2 * radius + 1
        self._grain = np.float32((color / 255) ** 2)

    def __call__(self, scores: np.ndarray, frame: np.ndarray, ending: Ending, grid: Grid) -> np.ndarray:
        """Labels of the frame, as `protocol.Refine` says; of the classes that have the highest of some scores."""
        scores = finite(scores)
        classes = np.unique(scores.argmax(axis=0)).astype(np.uint8)
        if len(classes) == 1:
            return np.full(ending.labels, classes[0], np.uint8)
        scores = scores[classes]
        fine = np.ascontiguousarray(scale(frame, fine_size(ending.labels)))
        coarse = scale(fine, coarse_size(ending.labels))
        size = fine.shape[0], fine.shape[1]
        lines = self._lines(upsampled(scores, ending, grid, (coarse.shape[0], coarse.shape[1])), coarse)
        followed = upsampled(scores, ending, grid, size)
        _follow(
            lines, fine, self._weight, *_between(lines.shape[1], size[0]), *_between(lines.shape[2], size[1]), followed
        )
        return classes[decode(followed, ending.labels)]

    def _lines(self, own: np.ndarray, picture: np.ndarray) -> np.ndarray:
        """Each class's line at each pixel, slopes over blue, green and red in [0, 1] and what is there at black.

        own: float32 (K, h, w), the network's scores; picture: uint8 (h, w, 3). Returns float32 (K, h, w, 4).
        """
        colors = picture.astype(np.float32) / 255
        pairs = (colors[..., [0, 0, 0, 1, 1, 2]] * colors[..., [0, 1, 2, 1, 2, 2]]).astype(np.float32)
        means, pairs = self._mean(colors), self._mean(pairs)
        lines = np.empty((*own.shape, 4), np.float32)
        joint = np.empty((*own.shape[1:], 4), np.float32)
        here = (*_between(own.shape[1], own.shape[1]), *_between(own.shape[2], own.shape[2]))
        said = own
        for turn in range(self._turns):
            if turn:
                said = own.copy()
                _follow(lines, picture, self._weight, *here, said)
            shares = _softmax(said)
            for number in range(len(own)):
                np.multiply(shares[number, ..., None], colors, out=joint[..., :3])
                joint[..., 3] = shares[number]
                _fit(means, pairs, self._mean(joint), self._grain, lines[number])
                lines[number] = self._mean(lines[number])
        return lines

    def _mean(self, planes: np.ndarray) -> np.ndarray:
        """Of the window around each pixel, reflected at the border: float32 (h, w, n)."""
        return cv2.blur(planes, self._window, borderType=cv2.BORDER_REFLECT)


def coarse_size(frame: Size) -> Size:
    share = min(1.0, COARSE / max(frame))
    return max(1, round(frame[0] * share)), max(1, round(frame[1] * share))


def fine_size(frame: Size) -> Size:
    """The frame's, divided by a whole number: then no pixel of the small picture lies across two of the frame."""
    step = max(1, round(max(frame) / FINE))
    return max(1, round(frame[0] / step)), max(1, round(frame[1] / step))


def _between(samples: int, pixels: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Where the pixels of one picture lie between those of another."""
    return places(samples, pixels, pixels, pixels, "half_pixel")


def _softmax(scores: np.ndarray) -> np.ndarray:
    shares = scores - scores.max(axis=0)
    np.exp(shares, shares)
    shares /= shares.sum(axis=0)
    return shares


@kernel(void(readable(float32, 3), readable(float32, 3), readable(float32, 3), float32, writable(float32, 3)))
def _fit(means, pairs, joint, grain, lines):
    """The least squares line of each window, by Cramer's rule; `grain` is added to each colour's variance.

    means: of the colours; pairs: of their products bb, bg, br, gg, gr, rr; joint: of share times colour, and of share.
    """
    height, width = lines.shape[0], lines.shape[1]
    for y in range(height):
        for x in range(width):
            b, g, r = means[y, x, 0], means[y, x, 1], means[y, x, 2]
            bb = pairs[y, x, 0] - b * b + grain
            bg = pairs[y, x, 1] - b * g
            br = pairs[y, x, 2] - b * r
            gg = pairs[y, x, 3] - g * g + grain
            gr = pairs[y, x, 4] - g * r
            rr = pairs[y, x, 5] - r * r + grain
            share = joint[y, x, 3]
            pb, pg, pr = joint[y, x, 0] - share * b, joint[y, x, 1] - share * g, joint[y, x, 2] - share * r
            ibb, ibg, ibr = gg * rr - gr * gr, gr * br - bg * rr, bg * gr - gg * br
            igg, igr, irr = bb * rr - br * br, br * bg - bb * gr, bb * gg - bg * bg
            scale = np.float32(1) / (ibb * bb + ibg * bg + ibr * br)
            by_b = scale * (ibb * pb + ibg * pg + ibr * pr)
            by_g = scale * (ibg * pb + igg * pg + igr * pr)
            by_r = scale * (ibr * pb + igr * pg + irr * pr)
            lines[y, x, 0], lines[y, x, 1], lines[y, x, 2] = by_b, by_g, by_r
            lines[y, x, 3] = share - (by_b * b + by_g * g + by_r * r)


@kernel(
    void(
        readable(float32, 4),
        readable(uint8, 3),
        float32,
        readable(int32, 1),
        readable(int32, 1),
        readable(float32, 1),
        readable(int32, 1),
        readable(int32, 1),
        readable(float32, 1),
        writable(float32, 3),
    )
)
def _follow(lines, picture, weight, above, below, down, left, right, across, scores):
    """Add to each score what its class's line, interpolated, says of the pixel's colours."""
    one, level = np.float32(1), np.float32(1 / 255)
    mixed = np.empty((lines.shape[2], 4), np.float32)
    for k in range(scores.shape[0]):
        for y in range(scores.shape[1]):
            top, bottom, share = lines[k, above[y]], lines[k, below[y]], down[y]
            for i in range(mixed.shape[0]):
                for n in range(4):
                    unit = weight * level if n < 3 else weight
                    mixed[i, n] = unit * ((one - share) * top[i, n] + share * bottom[i, n])
            for x in range(scores.shape[2]):
                first, second, beside = mixed[left[x]], mixed[right[x]], across[x]
                before = first[3]
                after = second[3]
                for n in range(3):
                    color = np.float32(picture[y, x, n])
                    before += first[n] * color
                    after += second[n] * color
                scores[k, y, x] += (one - beside) * before + beside * after
