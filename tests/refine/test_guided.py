"""Frames of flat colours whose edges lie between the scores, so that where labels ought to end is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from fcn_edge.decode import decode
from fcn_edge.prepare import Ending
from fcn_edge.refine.guided import Guided, small_size
from fcn_edge.spec import Deconv, Grid

FRAME = 720, 1280
CELLS = 36, 64  # 20 pixels wide


def whole(height: int, width: int) -> Ending:
    return Ending(None, (height, width), (height, width), (height, width))


def two_colors(edge: np.ndarray, noise: float = 6.0) -> np.ndarray:
    """Dark left of `edge`, a column a row, bright right of it; grainy as a camera's picture is."""
    right = np.arange(FRAME[1]) >= edge[:, None]
    grain = np.random.default_rng(0).normal(0, noise, (*FRAME, 3))
    return (np.where(right, 150, 70)[..., None] + grain).clip(0, 255).astype(np.uint8)


def scores_of(truth: np.ndarray, strength: float = 2.0) -> np.ndarray:
    """Of classes 0 and 1 as a network has them, which sees the edge blurred."""
    share = cv2.resize(truth.astype(np.float32), CELLS[::-1], interpolation=cv2.INTER_AREA)
    return np.stack([strength * (1 - 2 * share), strength * (2 * share - 1)])


def wrong(labels: np.ndarray, truth: np.ndarray) -> float:
    return float((labels != truth).mean())


@pytest.mark.parametrize("slant", [0.0, 0.3])
def test_labels_end_where_the_color_changes(slant: float) -> None:
    edge = 610 + slant * np.arange(FRAME[0])
    frame, truth = two_colors(edge), np.arange(FRAME[1]) >= edge[:, None]
    late = scores_of(np.arange(FRAME[1]) >= edge[:, None] + 10)  # the network is half a cell to the right
    plain, refined = decode(late, FRAME), Guided()(late, frame, whole(*FRAME), "half_pixel")
    assert wrong(plain, truth) > 0.006
    assert wrong(refined, truth) < 0.3 * wrong(plain, truth)


def test_a_speck_in_a_patch_of_one_color_gives_way_to_what_is_around_it() -> None:
    scores = np.zeros((2, *CELLS), np.float32)
    scores[0] = 3
    scores[1, 5, 8] = 4
    flat = np.full((*FRAME, 3), 90, np.uint8)
    assert decode(scores, FRAME).any()
    assert not Guided()(scores, flat, whole(*FRAME), "half_pixel").any()


def test_where_nothing_is_seen_the_networks_own_edge_stays() -> None:
    truth = np.zeros(FRAME, bool)
    truth[160:560, 384:896] = True
    flat = np.full((*FRAME, 3), 90, np.uint8)
    scores = scores_of(truth, 4.0)
    assert wrong(Guided()(scores, flat, whole(*FRAME), "half_pixel"), decode(scores, FRAME)) < 0.03


def test_no_class_appears_that_has_the_highest_of_no_score() -> None:
    random = np.random.default_rng(1)
    scores = random.normal(0, 2, (21, *CELLS)).astype(np.float32)
    scores[[3, 7]] -= 50
    frame = random.integers(0, 256, (*FRAME, 3), np.uint8)
    labels = Guided()(scores, frame, whole(*FRAME), "half_pixel")
    assert set(np.unique(labels)) <= set(np.unique(scores.argmax(0)))


def test_a_frame_of_one_class_is_that_class() -> None:
    scores = np.zeros((5, *CELLS), np.float32)
    scores[3] = 1
    labels = Guided()(scores, np.zeros((*FRAME, 3), np.uint8), whole(*FRAME), "half_pixel")
    assert (labels == 3).all()


@pytest.mark.parametrize("grid", ["half_pixel", "align_corners", Deconv(16, 6)])
@pytest.mark.parametrize("size", [(1, 1), (1, 90), (90, 1), (2, 3), (97, 131)])
def test_frames_of_any_size_and_grid_get_labels_of_their_size(grid: Grid, size: tuple[int, int]) -> None:
    random = np.random.default_rng(2)
    scores = random.normal(0, 2, (4, 7, 9)).astype(np.float32)
    frame = random.integers(0, 256, (*size, 3), np.uint8)
    labels = Guided()(scores, frame, whole(*size), grid)
    assert (labels.shape, labels.dtype, labels.flags.c_contiguous) == (size, np.uint8, True)


def test_what_it_is_given_is_left_as_it_was_and_views_will_do() -> None:
    random = np.random.default_rng(3)
    scores = random.normal(0, 2, (4, *CELLS)).astype(np.float32)
    frame = random.integers(0, 256, (*FRAME, 3), np.uint8)
    refine, before = Guided(), (scores.copy(), frame.copy())
    labels = refine(scores[:, :, ::-1], frame[:, ::-1], whole(*FRAME), "half_pixel")
    np.testing.assert_array_equal(
        labels,
        refine(scores[:, :, ::-1].copy(), frame[:, ::-1].copy(), whole(*FRAME), "half_pixel"),
    )
    np.testing.assert_array_equal(scores, before[0])
    np.testing.assert_array_equal(frame, before[1])


def test_scores_that_are_no_numbers_count_as_the_lowest() -> None:
    scores = np.zeros((3, *CELLS), np.float32)
    scores[0], scores[1], scores[2] = 1, 2, np.nan
    scores[0, :, :10] = 5
    labels = Guided()(scores, np.zeros((*FRAME, 3), np.uint8), whole(*FRAME), "half_pixel")
    assert list(np.unique(labels)) == [0, 1]


def test_the_small_picture_is_the_frame_divided_by_a_whole_number() -> None:
    assert small_size((720, 1280)) == (144, 256)
    assert small_size((1080, 1920)) == (135, 240)
    assert small_size((375, 500)) == (188, 250)
    assert small_size((3, 5)) == (3, 5)
    assert small_size((1, 4000)) == (1, 235)
