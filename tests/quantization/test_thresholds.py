"""Ranges against what NumPy finds on the values themselves, and by what each method is meant for."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_edge.errors import UsageError
from fcn_edge.quantization.observe import BINS, Histogram, Observed
from fcn_edge.quantization.thresholds import METHODS, SMALLEST, ranges


def observed(values: np.ndarray, top: float) -> Observed:
    counts = np.histogram(np.abs(values), BINS, (0, top))[0].astype(np.int64)
    return Observed({"x": Histogram(counts, top)}, {"x": np.zeros(1)}, 1, "key")


def largest(values: np.ndarray, top: float, method: str, percentile: float = 99.99) -> float:
    return ranges(observed(values, top), method, percentile).largest["x"]  # type: ignore[arg-type]


@pytest.fixture
def normal() -> np.ndarray:
    return np.random.default_rng(0).normal(size=200_000)


def test_minmax_reaches_the_largest_value(normal):
    assert largest(normal, 8, "minmax") == pytest.approx(np.abs(normal).max(), abs=8 / BINS)


@pytest.mark.parametrize("percentile", [90, 99.9, 100])
def test_a_percentile_is_numpys(normal, percentile):
    expected = np.percentile(np.abs(normal), percentile)
    assert largest(normal, 8, "percentile", percentile) == pytest.approx(expected, abs=2 * 8 / BINS)


def test_mse_is_the_least_of_the_values_own_rounding_errors(normal):
    values = np.append(normal, [7.9] * 3)  # rare and far out: not worth their steps

    def error(threshold: float) -> float:
        step = threshold / 127
        return float(((np.clip(np.rint(values / step), -127, 127) * step - values) ** 2).mean())

    found = largest(values, 8, "mse")
    best = min(error(threshold) for threshold in np.linspace(1, 8, 200))
    assert found < 6
    assert error(found) <= 1.02 * best


def test_entropy_cuts_off_what_is_rare_and_keeps_what_is_not(normal):
    assert largest(np.append(normal, [7.9] * 3), 8, "entropy") < 6
    even = np.random.default_rng(1).uniform(-6, 6, 200_000)
    assert largest(even, 8, "entropy") > 5.8


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_zeros_still_has_a_range(method):
    assert (
        ranges(Observed({"x": Histogram(np.zeros(BINS, np.int64), 0.0)}, {}, 1, "key"), method).largest["x"] == SMALLEST
    )


@pytest.mark.parametrize("method", METHODS)
def test_a_tensor_of_one_value_keeps_it(method):
    assert largest(np.full(1000, 5.0), 8, method) == pytest.approx(5.0, rel=0.02)


def test_another_method_or_percentile_is_refused(normal):
    with pytest.raises(UsageError, match="Known: entropy, minmax, mse, percentile"):
        largest(normal, 8, "kl")
    with pytest.raises(UsageError, match="above 50 and is at most 100, unlike 101"):
        largest(normal, 8, "percentile", 101)
