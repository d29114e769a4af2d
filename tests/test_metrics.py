"""The measures against torchmetrics, scikit-learn, a slow count, and cases worked out by hand."""

from __future__ import annotations

import importlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fcn_edge.errors import DataError
from fcn_edge.metrics import Scores, confusion, mean


def test_a_case_worked_out_by_hand() -> None:
    truth = np.array([[0, 0, 0, 1], [1, 1, 2, 255]], np.uint8)
    labels = np.array([[0, 0, 1, 1], [1, 2, 2, 0]], np.uint8)
    matrix = confusion(truth, labels, 3)
    assert matrix.tolist() == [[2, 1, 0], [0, 2, 1], [0, 0, 1]]
    scores = Scores(matrix)
    assert scores.per_class_iou == pytest.approx([2 / 3, 2 / 4, 1 / 2])
    assert scores.pixel_accuracy == pytest.approx(5 / 7)
    assert scores.mean_accuracy == pytest.approx((2 / 3 + 2 / 3 + 1) / 3)
    assert scores.mean_iou == pytest.approx((2 / 3 + 1 / 2 + 1 / 2) / 3)
    assert scores.frequency_weighted_iou == pytest.approx((3 * 2 / 3 + 3 / 2 + 1 / 2) / 7)


def test_a_class_that_does_not_occur_is_in_no_mean_but_costs_the_class_it_was_taken_from() -> None:
    truth = np.zeros(4, np.uint8)
    labels = np.array([0, 0, 0, 2], np.uint8)
    scores = Scores(confusion(truth, labels, 3))
    assert scores.occurs.tolist() == [True, False, False]
    assert np.isnan(scores.per_class_iou[1:]).all()
    assert scores.mean_iou == scores.per_class_iou[0] == 0.75
    assert scores.frequency_weighted_iou == 0.75
    assert math.isnan(mean(scores.per_class_iou, over=[1, 2]))
    assert mean(scores.per_class_iou, over=[0, 1]) == 0.75


def test_nothing_but_void_gives_no_figures_and_no_warning() -> None:
    scores = Scores(confusion(np.full((3, 3), 255, np.uint8), np.zeros((3, 3), np.uint8), 21))
    assert math.isnan(scores.pixel_accuracy)
    assert math.isnan(scores.mean_iou)
    assert math.isnan(scores.frequency_weighted_iou)


def test_a_label_under_void_does_not_count_even_out_of_range() -> None:
    matrix = confusion(np.array([255, 0], np.uint8), np.array([200, 0], np.uint8), 2)
    assert matrix.tolist() == [[1, 0], [0, 0]]


def test_another_void_value_may_be_named() -> None:
    matrix = confusion(np.array([11, 3], np.uint8), np.array([1, 3], np.uint8), 11, void=11)
    assert matrix.sum() == matrix[3, 3] == 1


@pytest.mark.parametrize(
    ("truth", "labels", "says"),
    [
        ([0, 5], [0, 0], r"truth hold index 5, 3 classes end at 2"),
        ([0, 0], [0, 3], r"labels hold index 3, 3 classes end at 2"),
        ([0, 0], [0, 255], r"labels hold index 255"),
        ([0, 0], [0, -1], r"labels hold values from -1 to 0"),
        ([0, 300], [0, 0], r"truth hold values from 0 to 300"),
        ([0, 0, 0], [0, 0], r"\(3,\).*\(2,\)"),
    ],
)
def test_what_is_out_of_range_is_an_error_and_never_wraps_around(truth: list, labels: list, says: str) -> None:
    with pytest.raises(DataError, match=says):
        confusion(np.array(truth), np.array(labels), 3)


@given(data=st.data(), classes=st.integers(1, 254), shape=arrays.array_shapes(max_dims=3, max_side=12))
def test_the_matrix_is_the_slow_count(data: st.DataObject, classes: int, shape: tuple[int, ...]) -> None:
    index = st.one_of(st.integers(0, classes - 1), st.just(255))
    truth = data.draw(arrays.arrays(np.uint8, shape, elements=index))
    labels = data.draw(arrays.arrays(np.int64, shape, elements=st.integers(0, classes - 1)))
    slow = np.zeros((classes, classes), np.int64)
    for t, p in zip(truth.ravel(), labels.ravel(), strict=True):
        if t != 255:
            slow[t, p] += 1
    matrix = confusion(truth, labels, classes)
    assert matrix.dtype == np.int64
    assert np.array_equal(matrix, slow)


def random_maps(classes: int, skill: float) -> tuple[np.ndarray, np.ndarray]:
    """Truth with a tenth of void, and labels of which `skill` are right and the rest dice."""
    random = np.random.default_rng(classes)
    truth = random.integers(0, classes, (4, 97, 131))
    labels = np.where(random.random(truth.shape) < skill, truth, random.integers(0, classes, truth.shape))
    truth[random.random(truth.shape) < 0.1] = 255
    return truth, labels


@pytest.mark.parametrize("classes", [2, 21, 150])
@pytest.mark.parametrize("skill", [0.0, 0.7])
def test_every_measure_is_what_torchmetrics_says(classes: int, skill: float) -> None:
    torch = pytest.importorskip("torch")
    importlib.import_module("fcn_edge.models._torchvision")  # torchmetrics imports torchvision, which may need mending
    reference = pytest.importorskip("torchmetrics.classification")
    truth, labels = random_maps(classes, skill)
    scores = Scores(sum(confusion(t, p, classes) for t, p in zip(truth, labels, strict=True)))  # type: ignore[arg-type]

    def theirs(kind: str, average: str) -> np.ndarray:
        metric = getattr(reference, kind)(num_classes=classes, average=average, ignore_index=255)
        return metric(torch.from_numpy(labels), torch.from_numpy(truth)).numpy()

    assert scores.per_class_iou == pytest.approx(theirs("MulticlassJaccardIndex", "none"), abs=1e-6)
    assert scores.mean_iou == pytest.approx(theirs("MulticlassJaccardIndex", "macro"), abs=1e-6)
    assert scores.frequency_weighted_iou == pytest.approx(theirs("MulticlassJaccardIndex", "weighted"), abs=1e-6)
    assert scores.pixel_accuracy == pytest.approx(theirs("MulticlassAccuracy", "micro"), abs=1e-6)
    assert scores.mean_accuracy == pytest.approx(theirs("MulticlassAccuracy", "macro"), abs=1e-6)


@pytest.mark.parametrize("classes", [2, 21, 150])
@pytest.mark.parametrize("skill", [0.0, 0.7])
def test_every_measure_is_what_scikit_learn_says(classes: int, skill: float) -> None:
    reference = pytest.importorskip("sklearn.metrics")
    truth, labels = random_maps(classes, skill)
    truth[truth == classes - 1] = 0  # a class that the truth lacks and the labels hold
    scores = Scores(sum(confusion(t, p, classes) for t, p in zip(truth, labels, strict=True)))  # type: ignore[arg-type]
    seen, given = truth[truth != 255], labels[truth != 255]
    occurring = range(classes - 1)

    def jaccard(average: str | None) -> np.ndarray:
        return reference.jaccard_score(seen, given, labels=occurring, average=average)

    assert (scores.matrix == reference.confusion_matrix(seen, given, labels=range(classes))).all()
    assert scores.per_class_iou[:-1] == pytest.approx(jaccard(None), abs=1e-6)
    assert np.isnan(scores.per_class_iou[-1])
    assert scores.mean_iou == pytest.approx(jaccard("macro"), abs=1e-6)
    assert scores.frequency_weighted_iou == pytest.approx(jaccard("weighted"), abs=1e-6)
    assert scores.pixel_accuracy == pytest.approx(reference.accuracy_score(seen, given), abs=1e-6)
    recalls = reference.recall_score(seen, given, labels=occurring, average="macro")
    assert scores.mean_accuracy == pytest.approx(recalls, abs=1e-6)
