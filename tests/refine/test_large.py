"""Large pictures: which are made smaller, and how their labels grow again."""

from __future__ import annotations

import numpy as np
import pytest

from fcn_edge.prepare import Ending
from fcn_edge.refine import crf
from fcn_edge.refine.crf import Crf
from fcn_edge.refine.large import enlarged, working_size


@pytest.mark.parametrize(
    ("size", "working"),
    [((1, 1), (1, 1)), ((1080, 1920), (1080, 1920)), ((4000, 6000), (1183, 1774)), ((2, 4_000_000), (1, 2_049_000))],
)
def test_a_picture_keeps_its_shape_and_shrinks_only_if_it_must(size: tuple[int, int], working: tuple[int, int]) -> None:
    rows, columns = working_size(size, 2_100_000)
    assert rows == working[0]
    assert columns == pytest.approx(working[1], rel=0.01)


def test_shares_of_the_same_size_are_compared_as_they_are_and_the_first_of_equals_wins() -> None:
    shares = np.array([[[0.5, 0.1]], [[0.5, 0.7]], [[0.0, 0.2]]], np.float32)
    assert enlarged(shares, (1, 2)).tolist() == [[0, 1]]


def test_a_border_between_two_pixels_stays_in_the_middle() -> None:
    shares = np.array([[[1, 0]], [[0, 1]]], np.float32)
    assert enlarged(shares, (3, 8)).tolist() == [[0] * 4 + [1] * 4] * 3


def test_a_large_picture_gets_its_labels_at_its_own_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crf, "MOST", 5000)
    frame = np.full((160, 240, 3), 40, np.uint8)
    frame[:, 127:] = 220
    scores = np.zeros((2, 8, 12), np.float32)
    scores[0, :, :6] = scores[1, :, 6:] = 3
    labels = Crf()(scores, frame, Ending(None, (160, 240), (160, 240), (160, 240)), "half_pixel")
    assert labels.shape == (160, 240)
    assert (labels[:, :124] == 0).all()
    assert (labels[:, 130:] == 1).all()
