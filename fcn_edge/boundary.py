"""How well the contours of the labels follow those of the truth: the boundary F-score.

IoU hardly sees contours: a pixel more around every object of a VOC picture is lost in its area. So the pixels at
which a class ends are counted as met or missed, whatever lies inside.

The definition, exactly. A contour pixel of a class has that class and, above, below, left or right of it inside the
frame, a pixel that has not. It is met if the other map has a contour pixel of the same class at a Euclidean distance
of at most the tolerance. Precision is the share of the labels' contour pixels that are met, recall that of the
truth's, each counted over the whole data set; F is their harmonic mean. The measure is that of Csurka et al. 2013
("What is a good evaluation measure for semantic segmentation?"), who take it per picture; meeting by distance instead
of one to one is how Perazzi et al. 2016 (DAVIS) compute theirs. Where the truth is void both maps are made void
first, as Takikawa et al. 2019 (Gated-SCNN) do it: what a model says there never counts, and a contour that runs
inside VOC's void border is met.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numba import int64, uint8, void

from fcn_edge.errors import DataError
from fcn_edge.jit import kernel, readable, writable
from fcn_edge.metrics import mean
from fcn_edge.spec import VOID

# Perazzi et al. take 0.8 % of the diagonal, Csurka et al. 0.75 %: 5.0 and 4.7 pixels on VOC's 500x375.
TOLERANCE = 5.0
TRUTH, TRUTH_MET, LABELS, LABELS_MET = range(4)


def contours(truth: np.ndarray, labels: np.ndarray, num_classes: int, tolerance: float = TOLERANCE) -> np.ndarray:
    """Contour pixels of each class, int64 (C, 4): the truth's, those of them met, the labels', those of them met.

    truth:     uint8 (H, W), below `num_classes`, or 255 for void.
    labels:    uint8 (H, W), below `num_classes` where the truth is not void.
    tolerance: pixels, at least 0.
    Counts of several pictures add up. Raises DataError where shapes differ.
    """
    if truth.shape != labels.shape or truth.ndim != 2:
        raise DataError(f"Truth is {truth.shape}, labels are {labels.shape}: they must have one shape, (H, W).")
    counts = np.zeros((4, 256), np.int64)
    truth = np.ascontiguousarray(truth, np.uint8)
    of_truth, of_labels = np.empty(truth.shape, np.uint8), np.empty(truth.shape, np.uint8)
    _outline(truth, truth, of_truth)
    _outline(np.ascontiguousarray(labels, np.uint8), truth, of_labels)
    disk = _disk(float(tolerance))
    _meet(of_truth, of_labels, disk, counts[TRUTH], counts[TRUTH_MET])
    _meet(of_labels, of_truth, disk, counts[LABELS], counts[LABELS_MET])
    return counts.T[:num_classes]


@dataclass(frozen=True)
class BoundaryScores:
    """What contour counts say. A class without a contour in the truth has no F (NaN) and is in no mean."""

    counts: np.ndarray  # int64 (C, 4), as `contours` gives them

    @property
    def per_class_precision(self) -> np.ndarray:
        """float64 (C,): the share of the labels' contour pixels that are met; 0 where there are none."""
        return self._where_it_occurs(self.counts[:, LABELS_MET], self.counts[:, LABELS])

    @property
    def per_class_recall(self) -> np.ndarray:
        """float64 (C,): the share of the truth's contour pixels that are met."""
        return self._where_it_occurs(self.counts[:, TRUTH_MET], self.counts[:, TRUTH])

    @property
    def per_class_f(self) -> np.ndarray:
        """float64 (C,), NaN for a class without a contour in the truth."""
        precision, recall = self.per_class_precision, self.per_class_recall
        return 2 * precision * recall / np.where(precision + recall == 0, 1, precision + recall)

    @property
    def mean_f(self) -> float:
        return mean(self.per_class_f)

    def _where_it_occurs(self, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        return np.where(self.counts[:, TRUTH] > 0, part / np.maximum(whole, 1), np.nan)


@kernel(void(readable(uint8, 2), readable(uint8, 2), writable(uint8, 2)))
def _outline(labels, truth, outline):
    """The class of each contour pixel, void elsewhere."""
    height, width = labels.shape
    for y in range(height):
        for x in range(width):
            own = labels[y, x]
            ends = False
            if x > 0:
                ends |= labels[y, x - 1] != own or truth[y, x - 1] == VOID
            if x < width - 1:
                ends |= labels[y, x + 1] != own or truth[y, x + 1] == VOID
            if y > 0:
                ends |= labels[y - 1, x] != own or truth[y - 1, x] == VOID
            if y < height - 1:
                ends |= labels[y + 1, x] != own or truth[y + 1, x] == VOID
            outline[y, x] = own if ends and truth[y, x] != VOID else VOID


@kernel(void(readable(uint8, 2), readable(uint8, 2), readable(int64, 2), writable(int64, 1), writable(int64, 1)))
def _meet(ours, theirs, disk, counts, met):
    """Count our contour pixels, and those with one of theirs of the same class in the disk around them."""
    height, width = ours.shape
    for y in range(height):
        for x in range(width):
            own = ours[y, x]
            if own == VOID:
                continue
            counts[own] += 1
            for n in range(disk.shape[0]):
                row, column = y + disk[n, 0], x + disk[n, 1]
                if 0 <= row < height and 0 <= column < width and theirs[row, column] == own:
                    met[own] += 1
                    break


@cache
def _disk(radius: float) -> np.ndarray:
    """int64 (n, 2): rows and columns of the pixels within `radius`, the nearest first, where most are met."""
    reach = int(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1].reshape(2, -1)
    squares = rows**2 + columns**2
    order = np.argsort(squares, kind="stable")[: np.count_nonzero(squares <= radius**2)]
    return np.ascontiguousarray(np.stack([rows, columns], 1)[order].astype(np.int64))
