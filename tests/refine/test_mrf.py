"""The Potts model's labellings against all labellings that there are."""

from __future__ import annotations

import sys
from itertools import product

import numpy as np
import pytest
from disk import blurred_disk

from fcn_edge.decode import decode
from fcn_edge.errors import BackendError
from fcn_edge.prepare import Ending
from fcn_edge.refine import open_refine
from fcn_edge.refine.mrf import Mrf, MrfFigures, between, cheapest, costs

flow = pytest.importorskip("ortools.graph.python.max_flow", reason="OR-tools is an extra: refine")

NEIGHBOURS = ((0, 1), (1, 0), (1, 1), (1, -1))


def energy(own: np.ndarray, edges: list[np.ndarray], labels: np.ndarray) -> int:
    """What a labelling costs, pixel by pixel and pair by pair."""
    _, height, width = own.shape
    total = 0
    for y, x in np.ndindex(height, width):
        total += int(own[labels[y, x], y, x])
        for (down, right), edge in zip(NEIGHBOURS, edges, strict=True):
            row, column = y + down, x + right
            if row < height and 0 <= column < width and labels[y, x] != labels[row, column]:
                total += int(edge[y, min(x, column)])
    return total


def problem(seed: int, classes: int, rows: int, columns: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Costs of pixels and of pairs, of which neither outweigh the others."""
    generator = np.random.default_rng(seed)
    own = generator.integers(0, 4000, (classes, rows, columns))
    shapes = [(rows - down, columns - abs(right)) for down, right in NEIGHBOURS]
    return own, [generator.integers(0, 900, shape) for shape in shapes]


def on_frame(frame: np.ndarray) -> Ending:
    size = frame.shape[0], frame.shape[1]
    return Ending(None, size, size, size)


@pytest.mark.parametrize("seed", range(5))
def test_of_two_classes_the_best_labelling_is_found(seed: int) -> None:
    own, edges = problem(seed, 2, 3, 4)
    best = min(energy(own, edges, np.reshape(labels, (3, 4))) for labels in product(range(2), repeat=12))
    assert energy(own, edges, cheapest(own, edges, flow)) == best


@pytest.mark.parametrize("seed", range(5))
def test_of_three_classes_no_single_class_can_better_the_labelling(seed: int) -> None:
    own, edges = problem(seed, 3, 3, 3)
    found = cheapest(own, edges, flow)
    cost = energy(own, edges, found)
    for label in range(3):
        for takes in product([False, True], repeat=9):
            assert energy(own, edges, np.where(np.reshape(takes, (3, 3)), label, found)) >= cost
    best = min(energy(own, edges, np.reshape(labels, (3, 3))) for labels in product(range(3), repeat=9))
    assert cost <= 2 * best


def test_costs_are_negative_logarithms_of_the_softmax_in_thousandths() -> None:
    logits = np.log(np.array([0.5, 0.25, 0.25], np.float32)).reshape(3, 1, 1) + 7
    assert costs(logits).ravel().tolist() == [693, 1386, 1386]


def test_a_border_costs_less_where_the_picture_changes() -> None:
    frame = np.zeros((6, 500, 3), np.uint8)
    frame[:, 250:] = 200
    right, *_, diagonal = between(frame, MrfFigures(flat=1.0, contrast=2.0))
    assert right[0, 0] == 3000
    assert diagonal[0, 0] == round(3000 / 2**0.5)
    assert 1000 <= right[0, 249] < 1001


def test_without_neighbours_the_labels_are_those_of_decode() -> None:
    scores = np.random.default_rng(4).normal(0, 3, (21, 6, 8)).astype(np.float32)
    frame = np.random.default_rng(5).integers(0, 256, (90, 120, 3), np.uint8)
    labels = Mrf(MrfFigures(flat=0.0, contrast=0.0))(scores, frame, on_frame(frame), "half_pixel")
    assert labels.dtype == np.uint8
    assert (labels != decode(scores, (90, 120))).mean() < 0.001  # costs are rounded to a thousandth


def test_a_blurred_disk_gets_the_edge_that_the_frame_has() -> None:
    frame, truth, scores = blurred_disk()
    before = decode(scores, frame.shape[:2])
    after = open_refine("mrf")(scores, frame, on_frame(frame), "half_pixel")
    assert (after != truth).mean() < (before != truth).mean() / 2


def test_one_class_alone_needs_no_cut() -> None:
    scores = np.zeros((5, 4, 4), np.float32)
    scores[3] = 1
    frame = np.zeros((9, 7, 3), np.uint8)
    assert (Mrf()(scores, frame, on_frame(frame), "half_pixel") == 3).all()


def test_a_missing_library_is_answered_with_the_line_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ortools.graph.python.max_flow", None)
    with pytest.raises(BackendError, match="max_flow is not installed: pip install ortools"):
        Mrf()
