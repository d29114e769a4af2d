"""Where `decode` can say what is right it is asked: it was held against the definition by its own tests."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fcn_edge.decode import decode
from fcn_edge.prepare import Ending
from fcn_edge.refine.upsampling import contenders, finite, upsampled
from fcn_edge.spec import Deconv, Grid

GRIDS: list[Grid] = ["half_pixel", "align_corners", Deconv(8, 4)]


def noise(seed: int, classes: int = 5, height: int = 9, width: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (classes, height, width)).astype(np.float32)


def whole(height: int, width: int) -> Ending:
    return Ending(None, (height, width), (height, width), (height, width))


@pytest.mark.parametrize("grid", GRIDS)
@given(seed=st.integers(0, 2**32 - 1), height=st.integers(1, 68), width=st.integers(1, 92))
def test_the_highest_of_upsampled_scores_are_the_labels_that_decode_gives(
    grid: Grid, seed: int, height: int, width: int
) -> None:
    scores = noise(seed)
    found = upsampled(scores, whole(height, width), grid)
    assert (found.shape, found.dtype) == ((5, height, width), np.float32)
    np.testing.assert_array_equal(found.argmax(0), decode(scores, (height, width), grid))


@pytest.mark.parametrize("grid", GRIDS)
def test_a_border_beyond_the_frame_is_cut_off(grid: Grid) -> None:
    scores = noise(1)
    ending = Ending(None, (64, 80), (50, 77), (50, 77))
    np.testing.assert_array_equal(upsampled(scores, ending, grid).argmax(0), decode(scores, (64, 80), grid)[:50, :77])


def test_at_any_other_size_they_are_interpolated_as_opencv_does_it() -> None:
    scores = noise(2)
    for size in ((45, 60), (31, 77), (9, 12)):
        expected = [cv2.resize(plane, size[::-1], interpolation=cv2.INTER_LINEAR) for plane in scores]
        np.testing.assert_allclose(upsampled(scores, whole(90, 120), "half_pixel", size), expected, atol=1e-4)


def test_labels_that_would_be_stretched_are_scores_between_pixels() -> None:
    scores = noise(3)
    stretched = upsampled(scores, Ending(None, (45, 60), (45, 60), (90, 120)), "half_pixel")
    np.testing.assert_allclose(stretched, upsampled(scores, whole(90, 120), "half_pixel"), atol=1e-4)


def test_what_is_not_finite_wins_and_loses_as_in_decode() -> None:
    scores = noise(4)
    scores[1] = np.nan
    scores[2, 4, 4] = np.inf
    scores[3, 2, 2] = -np.inf
    for grid in GRIDS:
        np.testing.assert_array_equal(upsampled(scores, whole(36, 48), grid).argmax(0), decode(scores, (36, 48), grid))


def test_finite_scores_are_not_copied() -> None:
    scores = noise(5)
    assert finite(scores) is scores
    scores[0, 0, 0] = np.nan
    assert np.isfinite(finite(scores)).all()
    assert np.isnan(scores[0, 0, 0])


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 30), st.integers(1, 9))
def test_no_class_that_wins_somewhere_is_left_out(seed: int, ahead: float, classes: int) -> None:
    scores = noise(seed, classes)
    scores[0] += np.float32(ahead)
    labels = decode(scores, (72, 96))
    assert set(np.unique(labels)) <= set(contenders(scores))


def test_classes_that_are_below_another_everywhere_are_left_out() -> None:
    scores = noise(6)
    scores[[1, 3]] -= 100
    assert list(contenders(scores)) == [0, 2, 4]
    scores[2] += 200
    assert list(contenders(scores)) == [2]
