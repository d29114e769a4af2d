"""The boundary F-score against SciPy's distance transform, and contours drawn by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fcn_edge.boundary import TOLERANCE, BoundaryScores, contours
from fcn_edge.errors import DataError


def square(top: int, left: int, side: int = 10, frame: int = 40) -> np.ndarray:
    """A square of class 1 on a ground of class 0."""
    labels = np.zeros((frame, frame), np.uint8)
    labels[top : top + side, left : left + side] = 1
    return labels


def by_distance_transform(truth: np.ndarray, labels: np.ndarray, num_classes: int, tolerance: float) -> np.ndarray:
    """The definition class by class, by other means: erosion for contours, Euclidean distances for matches."""
    ndimage = pytest.importorskip("scipy.ndimage")
    counts = np.zeros((num_classes, 4), np.int64)
    valid = truth != 255
    cross = ndimage.generate_binary_structure(2, 1)
    for index in range(num_classes):
        outlines = []
        for indices in (truth, labels):
            mask = (indices == index) & valid
            outlines.append(mask & ~ndimage.binary_erosion(mask, cross, border_value=1))
        for ours, theirs, column in ((*outlines, 0), (*outlines[::-1], 2)):
            counts[index, column] = ours.sum()
            if theirs.any():
                far = ndimage.distance_transform_edt(~theirs)
                counts[index, column + 1] = (ours & (far <= tolerance)).sum()
    return counts


def test_a_square_has_the_pixels_of_its_rim_and_of_the_ring_around_it() -> None:
    truth = square(15, 15)
    assert contours(truth, truth, 2).tolist() == [[40, 40, 40, 40], [36, 36, 36, 36]]


def test_the_frame_is_no_contour() -> None:
    assert not contours(np.zeros((9, 9), np.uint8), np.zeros((9, 9), np.uint8), 1).any()


@pytest.mark.parametrize(("shift", "f"), [(0, 1.0), (5, 1.0), (6, 26 / 36)])
def test_a_contour_within_the_tolerance_is_met(shift: int, f: float) -> None:
    """Shifted by six, the ten pixels of one column lie too far off; the rest finds a row, or the other column."""
    counts = contours(square(10, 10), square(10, 10 + shift), 2, tolerance=5)
    met = 36 if shift < 6 else 26
    assert counts[1].tolist() == [36, met, 36, met]
    assert BoundaryScores(counts).per_class_f[1] == pytest.approx(f)


def test_precision_and_recall_are_taken_over_all_pictures_and_not_averaged() -> None:
    first = contours(square(5, 5, side=20), square(5, 5, side=20), 2)
    second = contours(square(5, 5, side=4), np.zeros((40, 40), np.uint8), 2)
    scores = BoundaryScores(first + second)
    rim, missed = 4 * 19, 4 * 3
    assert scores.per_class_precision[1] == 1
    assert scores.per_class_recall[1] == pytest.approx(rim / (rim + missed))
    assert scores.per_class_f[1] == pytest.approx(2 * rim / (2 * rim + missed))


def test_what_a_model_says_in_void_never_counts() -> None:
    truth = square(10, 10)
    truth[8:22, 8:22][square(2, 2, frame=14) == 0] = 255  # a border two pixels wide around the square
    within, beyond = square(9, 9, side=12), square(8, 8, side=14)
    for labels in (truth, within, beyond):
        labels = np.where(labels == 255, 0, labels)
        counts = contours(truth, labels, 2, tolerance=0)
        assert counts[:, :2].tolist() == counts[:, 2:].tolist() == [[56, 56], [36, 36]]


def test_a_class_without_a_contour_in_the_truth_is_in_no_mean() -> None:
    truth, labels = square(10, 10), square(10, 10)
    labels[30:34, 30:34] = 2
    scores = BoundaryScores(contours(truth, labels, 4, tolerance=1))
    assert np.isnan(scores.per_class_f).tolist() == [False, False, True, True]
    assert scores.mean_f == pytest.approx(scores.per_class_f[:2].mean())
    assert scores.per_class_f[0] < 1  # the ring around what is not there
    assert scores.per_class_f[1] == 1


def test_a_class_that_was_never_seen_scores_zero_and_nothing_at_all_no_figure() -> None:
    assert BoundaryScores(contours(square(5, 5), np.zeros((40, 40), np.uint8), 2)).per_class_f[1] == 0
    void = np.full((8, 8), 255, np.uint8)
    assert math.isnan(BoundaryScores(contours(void, np.zeros((8, 8), np.uint8), 2)).mean_f)


@given(
    data=st.data(),
    shape=arrays.array_shapes(min_dims=2, max_dims=2, max_side=16),
    classes=st.integers(1, 4),
    tolerance=st.sampled_from([0, 1, 1.5, 3, TOLERANCE, 40]),
)
def test_it_is_the_distance_transforms_count(
    data: st.DataObject, shape: tuple[int, int], classes: int, tolerance: float
) -> None:
    index = st.integers(0, classes - 1)
    truth = data.draw(arrays.arrays(np.uint8, shape, elements=st.one_of(index, st.just(255))))
    labels = data.draw(arrays.arrays(np.uint8, shape, elements=index))
    expected = by_distance_transform(truth, labels, classes, tolerance)
    assert contours(truth, labels, classes, tolerance).tolist() == expected.tolist()


def test_large_shapes_with_void_give_the_distance_transforms_f() -> None:
    random = np.random.default_rng(0)
    blobs = np.kron(random.integers(0, 21, (9, 12)), np.ones((40, 40), int)).astype(np.uint8)
    truth, labels = blobs.copy(), np.roll(blobs, (4, 7), (0, 1))
    truth[random.random(truth.shape) < 0.01] = 255
    expected = BoundaryScores(by_distance_transform(truth, labels, 21, TOLERANCE))
    assert BoundaryScores(contours(truth, labels, 21)).per_class_f == pytest.approx(
        expected.per_class_f, abs=1e-12, nan_ok=True
    )


def test_maps_that_are_not_of_one_shape_are_refused() -> None:
    with pytest.raises(DataError, match=r"\(3, 4\).*\(4, 3\)"):
        contours(np.zeros((3, 4), np.uint8), np.zeros((4, 3), np.uint8), 2)
