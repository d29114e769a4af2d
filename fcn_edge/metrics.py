"""One confusion matrix over a data set, and what follows from it.

Truth and label are put side by side in one 16-bit number and counted in a 256 x 256 table. Void then
is a row that is left out, a label out of range is a column that should be empty, and no mask over
the pixels is ever made: 3 ns a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcn_edge.errors import DataError
from fcn_edge.spec import MAX_CLASSES, VOID


def confusion(truth: np.ndarray, labels: np.ndarray, num_classes: int, void: int = VOID) -> np.ndarray:
    """How often each class of the truth (rows) got each label (columns): int64 (C, C).

    truth, labels: integers 0..255 of equal shape, any number of dimensions.
    Pixels whose truth is `void` are left out, whatever their label.
    Raises DataError where shapes differ or an index is not below `num_classes`.
    """
    if not 1 <= num_classes <= MAX_CLASSES or not num_classes <= void <= 255:
        raise ValueError(f"{num_classes} classes and void {void}: 1 to {MAX_CLASSES} classes, void above them, to 255")
    if truth.shape != labels.shape:
        raise DataError(f"Truth is {truth.shape}, labels are {labels.shape}: they must have one shape.")
    pairs = _bytes(truth, "truth").astype(np.uint16)
    pairs <<= 8
    pairs |= _bytes(labels, "labels")
    table = np.bincount(pairs.ravel(), minlength=1 << 16).reshape(256, 256)
    table[void] = 0
    for counts, what in ((table.sum(1), "truth"), (table.sum(0), "labels")):
        strange = np.flatnonzero(counts[num_classes:])
        if strange.size:
            raise DataError(
                f"The {what} hold index {strange[0] + num_classes}, {num_classes} classes end at {num_classes - 1}. "
                "Model and masks do not speak of the same classes."
            )
    return table[:num_classes, :num_classes].astype(np.int64)


@dataclass(frozen=True)
class Scores:
    """What a confusion matrix (rows truth, columns labels) says.

    A class without a pixel in the truth has no IoU and no accuracy (NaN) and is in no mean; its false
    positives still lower the IoU of the classes that they were taken from.
    """

    matrix: np.ndarray  # int64 (C, C)

    @property
    def occurs(self) -> np.ndarray:
        """bool (C,): the classes that have a pixel in the truth."""
        return self.matrix.sum(1) > 0

    @property
    def per_class_iou(self) -> np.ndarray:
        """float64 (C,), NaN for a class that does not occur."""
        hits = np.diag(self.matrix)
        return self._where_it_occurs(hits, self.matrix.sum(0) + self.matrix.sum(1) - hits)

    @property
    def per_class_accuracy(self) -> np.ndarray:
        """float64 (C,): the share of a class's pixels that got its label; NaN for one that does not occur."""
        return self._where_it_occurs(np.diag(self.matrix), self.matrix.sum(1))

    @property
    def pixel_accuracy(self) -> float:
        """The share of all pixels that got the right label; NaN where there are none."""
        total = int(self.matrix.sum())
        return float(np.trace(self.matrix)) / total if total else float("nan")

    @property
    def mean_accuracy(self) -> float:
        return mean(self.per_class_accuracy)

    @property
    def mean_iou(self) -> float:
        return mean(self.per_class_iou)

    @property
    def frequency_weighted_iou(self) -> float:
        """IoU weighted by each class's share of the truth; NaN where there are no pixels."""
        pixels = self.matrix.sum(1)
        if not pixels.any():
            return float("nan")
        return float(np.nansum(self.per_class_iou * pixels) / pixels.sum())

    def _where_it_occurs(self, part: np.ndarray, whole: np.ndarray) -> np.ndarray:
        occurs = self.occurs
        return np.where(occurs, part / np.where(occurs, whole, 1), np.nan)


def mean(values: np.ndarray, over: Sequence[int] | None = None) -> float:
    """The mean of those `values` that are not NaN, of all or `over` some indices; NaN where none is left."""
    chosen = values if over is None else values[list(over)]
    chosen = chosen[~np.isnan(chosen)]
    return float(chosen.mean()) if chosen.size else float("nan")


def _bytes(indices: np.ndarray, what: str) -> np.ndarray:
    if indices.dtype == np.uint8:
        return indices
    if indices.size and (indices.min() < 0 or indices.max() > 255):
        raise DataError(f"The {what} hold values from {indices.min()} to {indices.max()}, indices are 0 to 255.")
    return indices.astype(np.uint8)
