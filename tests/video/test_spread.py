from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcn_edge.video.spread import Spread

seconds = st.floats(2e-6, 900)


def spread_of(values) -> Spread:
    spread = Spread()
    for value in values:
        spread.add(value)
    return spread


@given(st.lists(seconds, min_size=1, max_size=200), st.sampled_from([1, 50, 95, 99, 100]))
def test_a_percentile_is_off_by_one_in_a_hundred_at_most(values, percent):
    expected = np.percentile(values, percent, method="inverted_cdf")
    assert spread_of(values).percentile(percent) == pytest.approx(expected, rel=0.0101)


@given(st.lists(seconds, max_size=50), st.lists(seconds, max_size=50))
def test_several_together_are_as_all_values_in_one(some, others):
    together, one = Spread.of([spread_of(some), spread_of(others)]), spread_of([*some, *others])
    assert (together.count, together.most) == (one.count, one.most)
    assert together.mean == pytest.approx(one.mean)
    assert together.percentile(95) == one.percentile(95)


def test_what_is_out_of_reach_counts_as_what_is_just_within():
    spread = spread_of([0.0, 1e-9, 5000.0])
    assert spread.percentile(50) <= 2e-6
    assert spread.percentile(100) == pytest.approx(1000, rel=0.02)
    assert spread.most == 5000.0


def test_nothing_was_measured():
    assert spread_of([]).milliseconds() == {"mean": 0, "p50": 0, "p95": 0, "p99": 0, "max": 0}


def test_it_does_not_grow():
    spread = spread_of([0.001])
    before = sys.getsizeof(spread._counts)
    for value in range(1, 5000):
        spread.add(value / 1000)
    assert sys.getsizeof(spread._counts) == before
