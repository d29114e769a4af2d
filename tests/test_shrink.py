"""Averaging down, against OpenCV's INTER_AREA."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcn_edge.prepare import scale
from fcn_edge.shrink import shrink

side = st.integers(1, 90)


@settings(deadline=None, max_examples=300)
@given(rows=side, columns=side, height=side, width=side, seed=st.integers(0, 2**32 - 1))
def test_it_averages_as_opencv_does(rows: int, columns: int, height: int, width: int, seed: int) -> None:
    height, width = min(rows, height), min(columns, width)
    frame = np.random.default_rng(seed).integers(0, 256, (rows, columns, 3), np.uint8)
    reference = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    assert np.abs(shrink(frame, (height, width)).astype(int) - reference).max() <= 1


@pytest.mark.parametrize("size", [(289, 513), (1, 1), (720, 513), (289, 1280)])
def test_a_flat_frame_stays_flat(size: tuple[int, int]) -> None:
    assert (shrink(np.full((720, 1280, 3), 255, np.uint8), size) == 255).all()


def test_the_same_size_changes_nothing() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (37, 53, 3), np.uint8)
    np.testing.assert_array_equal(shrink(frame, (37, 53)), frame)


def test_the_mean_of_a_frame_is_kept() -> None:
    frame = np.random.default_rng(1).integers(0, 256, (720, 1280, 3), np.uint8)
    assert abs(shrink(frame, (289, 513)).mean() - frame.mean()) < 0.05


def test_one_axis_may_shrink_while_the_other_grows() -> None:
    frame = np.random.default_rng(2).integers(0, 256, (10, 400, 3), np.uint8)
    scaled = scale(frame, (33, 50))
    expected = cv2.resize(cv2.resize(frame, (50, 10), interpolation=cv2.INTER_AREA), (50, 33))
    assert np.abs(scaled.astype(int) - expected).max() <= 2  # a level for each axis


def test_growing_interpolates() -> None:
    frame = np.random.default_rng(3).integers(0, 256, (10, 20, 3), np.uint8)
    np.testing.assert_array_equal(scale(frame, (33, 65)), cv2.resize(frame, (65, 33)))
