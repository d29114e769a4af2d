"""From how often a tensor took which values to where its int8 range ends.

A range as wide as the largest value wastes steps on values that hardly occur; a narrower one cuts those off. The four
methods weigh the one against the other, each in its own way. All are symmetric: the threshold t is 127 steps, so a
step is t/127, zero is 0 and -128 is not used (TensorRT takes no other zero point).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from fcn_edge.errors import UsageError, unknown
from fcn_edge.quantization.observe import Histogram, Observed

Method = Literal["minmax", "percentile", "entropy", "mse"]
METHODS = get_args(Method)
PERCENTILE = 99.99
STEPS = 127
LEVELS = 128  # of |x|, 0 included
CANDIDATES = 128  # thresholds that are tried; between two of them the loss differs by less than a hundredth
SMALLEST = 1e-6  # the threshold of a tensor that was zero throughout: a step of zero could not be divided by


@dataclass(frozen=True)
class Ranges:
    """What quantising needs to know of each tensor."""

    largest: dict[str, float]  # |x| that int8 is to reach
    means: dict[str, np.ndarray]  # float64 (C,): of each channel


def ranges(observed: Observed, method: Method = "minmax", percentile: float = PERCENTILE) -> Ranges:
    """Where int8 is to end for each tensor.

    method:     minmax: the largest value that was seen. percentile: that below which `percentile` of the values lie.
                entropy: the least Kullback-Leibler divergence between the values and their quantised form (Migacz,
                "8-bit Inference with TensorRT", GTC 2017). mse: the least mean squared error.
    percentile: above 50, up to 100.
    Raises UsageError for another method or percentile.
    """
    if method not in METHODS:
        raise unknown("calibration method", method, METHODS)
    if not 50 < percentile <= 100:
        raise UsageError(f"a percentile lies above 50 and is at most 100, unlike {percentile:g}.")
    choose = {"minmax": _minmax, "percentile": _percentile, "entropy": _entropy, "mse": _mse}[method]
    found = {
        name: max(float(choose(each, percentile)), SMALLEST) if each.largest else SMALLEST
        for name, each in observed.histograms.items()
    }
    return Ranges(found, observed.means)


def _minmax(histogram: Histogram, percentile: float) -> float:
    return histogram.largest


def _percentile(histogram: Histogram, percentile: float) -> float:
    total = np.cumsum(histogram.counts)
    index = int(np.searchsorted(total, total[-1] * percentile / 100))
    return min((index + 1) * histogram.top / len(total), histogram.largest)


def _mse(histogram: Histogram, percentile: float) -> float:
    values = (np.arange(len(histogram.counts)) + 0.5) * histogram.top / len(histogram.counts)

    def error(threshold: float) -> float:
        step = threshold / STEPS
        within = np.minimum(np.round(values / step), STEPS) * step
        return float(histogram.counts @ (within - values) ** 2)

    return min((histogram.largest * part for part in np.linspace(0.1, 1, CANDIDATES)), key=error)


def _entropy(histogram: Histogram, percentile: float) -> float:
    filled = int(np.count_nonzero(np.cumsum(histogram.counts[::-1])))  # bins up to the last that holds anything
    if filled <= LEVELS:
        return histogram.largest
    counts = histogram.counts[:filled].astype(np.float64)
    # Zeros are exact in int8, and after a ReLU they are most of the values: they would drown the rest.
    counts[0] = counts[1]
    ends = np.unique(np.linspace(LEVELS, filled, CANDIDATES).astype(int))
    best = min(ends, key=lambda end: _divergence(counts, end))
    return best * histogram.top / len(histogram.counts)


def _divergence(counts: np.ndarray, end: int) -> float:
    """Kullback-Leibler, of all counts cut off at bin `end` from the same dealt out over LEVELS equal values."""
    reference = counts[:end].copy()
    reference[-1] += counts[end:].sum()
    level = np.arange(end) * LEVELS // end
    held = counts[:end] > 0
    sums = np.bincount(level, counts[:end], LEVELS)
    bins = np.bincount(level, held, LEVELS)
    spread = np.where(held, (sums / np.maximum(bins, 1))[level], 0)
    p, q = reference / reference.sum(), spread / max(spread.sum(), 1)
    both = (p > 0) & (q > 0)
    lost = p[(p > 0) & (q == 0)].sum()  # what was cut off into a bin that holds nothing of its own
    return float(np.sum(p[both] * np.log(p[both] / q[both])) + lost * np.log(1 / SMALLEST))
