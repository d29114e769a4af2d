"""The CRF and its lattice against sums over all pairs of pixels, in float64."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from disk import blurred_disk

from fcn_edge.decode import decode
from fcn_edge.prepare import Ending
from fcn_edge.refine.crf import Crf, CrfFigures, beliefs
from fcn_edge.refine.lattice import CORNERS, LANES, Lattice, lattice
from fcn_edge.refine.recipe import read_figures

FIGURES = CrfFigures(
    iterations=5,
    appearance=4.0,
    appearance_place=80.0,  # of a picture of 500 pixels: 8 of one of 50
    appearance_colour=12.0,
    smoothness=3.0,
    smoothness_place=12.0,
)
SILENT = CrfFigures(
    iterations=3,
    appearance=0.0,
    appearance_place=65.0,
    appearance_colour=5.0,
    smoothness=0.0,
    smoothness_place=3.0,
)


def photo(rows: int = 18, columns: int = 20) -> np.ndarray:
    """Two grounds and a disk, with a little noise."""
    frame = np.full((rows, columns, 3), (60, 120, 90), np.uint8)
    frame[:, columns // 2 :] = (70, 90, 160)
    cv2.circle(frame, (columns // 3, rows // 2), rows // 4, (200, 60, 40), -1)
    noise = np.random.default_rng(0).normal(0, 4, frame.shape)
    return np.clip(frame + noise, 0, 255).astype(np.uint8)


def some_logits(classes: int, rows: int = 18, columns: int = 20) -> np.ndarray:
    coarse = np.random.default_rng(1).normal(0, 2, (classes, 3, 4)).astype(np.float32)
    return np.stack([cv2.resize(each, (columns, rows)) for each in coarse])


def gaussians(frame: np.ndarray, place: float, colour: float | None) -> np.ndarray:
    """The kernel of every pair of pixels, float64 (N, N)."""
    rows, columns = np.indices(frame.shape[:2]).reshape(2, -1) / place
    points = [rows, columns]
    if colour is not None:
        points += list(frame.reshape(-1, 3).T.astype(float) / colour)
    return np.exp(-0.5 * sum((axis[:, None] - axis[None, :]) ** 2 for axis in points))


def by_all_pairs(logits: np.ndarray, frame: np.ndarray, figures: CrfFigures) -> np.ndarray:
    """Mean field as the papers write it, (H, W, C)."""
    scale = max(frame.shape[:2]) / 500
    kernels = [
        (figures.appearance, gaussians(frame, figures.appearance_place * scale, figures.appearance_colour)),
        (figures.smoothness, gaussians(frame, figures.smoothness_place * scale, None)),
    ]
    unary = logits.reshape(len(logits), -1).T.astype(float)

    def softmax(energies: np.ndarray) -> np.ndarray:
        powers = np.exp(energies - energies.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    believed = softmax(unary)
    for _ in range(figures.iterations):
        energies = unary.copy()
        for weight, kernel in kernels:
            others = kernel @ believed / kernel.sum(axis=1, keepdims=True)
            energies -= weight * (1 - others)  # Potts: what those around believe in other classes
        believed = softmax(energies)
    return believed.reshape(*frame.shape[:2], -1)


def filtered(pixels: np.ndarray, over: Lattice) -> np.ndarray:
    out = np.empty_like(pixels)
    over.filter(pixels, over.vertices(LANES), over.vertices(LANES), out)
    return out


def on_frame(frame: np.ndarray) -> Ending:
    size = frame.shape[0], frame.shape[1]
    return Ending(None, size, size, size)


def test_means_over_the_lattice_are_those_over_all_pairs() -> None:
    frame = photo()
    values = np.random.default_rng(2).random((frame.shape[0] * frame.shape[1], LANES)).astype(np.float32)
    kernel = gaussians(frame, 8, 12)
    over = lattice(frame, 8, 12)
    means = filtered(values, over) / filtered(np.ones_like(values), over)
    np.testing.assert_allclose(means, kernel @ values / kernel.sum(axis=1, keepdims=True), atol=0.03)


def test_a_pixel_belongs_to_its_corners_in_parts_that_add_up_to_one() -> None:
    over = lattice(photo(), 8, 12)
    assert over.weights.min() > -1e-5
    np.testing.assert_allclose(over.weights.sum(axis=1), 1, atol=1e-5)
    assert all(len(set(corners)) == CORNERS for corners in over.corners.tolist())


def test_neighbours_know_each_other_however_many_vertices_there_are() -> None:
    frame = np.random.default_rng(3).integers(0, 256, (100, 120, 3), np.uint8)
    over = lattice(frame, 8, 3)
    count = over.neighbours.shape[1]
    assert count > 1 << 15  # more than the first table has room for
    assert over.corners.max() == count - 1
    for before, after in over.neighbours.transpose(0, 2, 1):
        there = after < count
        assert (before[after[there]] == np.flatnonzero(there)).all()


@pytest.mark.parametrize("classes", [2, 3, 6])
def test_beliefs_are_those_of_mean_field_over_all_pairs(classes: int) -> None:
    frame, logits = photo(40, 50), some_logits(classes, 40, 50)
    ours, theirs = beliefs(logits, frame, FIGURES), by_all_pairs(logits, frame, FIGURES)
    assert np.abs(ours - theirs).mean() < 0.01
    assert (ours.argmax(axis=2) == theirs.argmax(axis=2)).mean() > 0.99
    np.testing.assert_allclose(ours.sum(axis=2), 1, atol=1e-5)


def test_a_silent_crf_gives_the_labels_of_decode() -> None:
    scores = np.random.default_rng(4).normal(0, 3, (21, 6, 8)).astype(np.float32)
    frame = photo(90, 120)
    labels = Crf(SILENT)(scores, frame, on_frame(frame), "half_pixel")
    assert labels.dtype == np.uint8
    assert labels.flags.c_contiguous
    np.testing.assert_array_equal(labels, decode(scores, frame.shape[:2]))


def test_a_blurred_disk_gets_the_edge_that_the_frame_has() -> None:
    frame, truth, scores = blurred_disk()
    before = decode(scores, frame.shape[:2])
    after = Crf()(scores, frame, on_frame(frame), "half_pixel")
    assert (before != truth).mean() > 0.01
    assert (after != truth).mean() < (before != truth).mean() / 4


def test_scores_that_are_no_numbers_count_as_the_lowest_and_infinite_ones_win() -> None:
    scores = np.zeros((3, 4, 4), np.float32)
    scores[1, :, :2] = np.inf
    scores[2] = np.nan
    labels = Crf()(scores, photo(), on_frame(photo()), "half_pixel")
    assert (labels[:, :8] == 1).all()
    assert (labels != 2).all()


def test_one_class_alone_needs_no_crf() -> None:
    scores = np.zeros((5, 4, 4), np.float32)
    scores[3] = 1
    assert (Crf()(scores, photo(), on_frame(photo()), "half_pixel") == 3).all()


def test_the_recipe_holds_published_figures_beside_ours() -> None:
    figures = read_figures("crf", CrfFigures)
    assert list(figures) == ["ours", "deeplab-v1", "deeplab-v2-vgg16", "deeplab-v2-resnet101"]
    assert figures["deeplab-v2-resnet101"].appearance_place == 67
