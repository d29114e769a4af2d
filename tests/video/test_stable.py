from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import SPEC, random_frames, scores_of, write_onnx

from fcn_edge.decode import decode
from fcn_edge.errors import ModelError
from fcn_edge.prepare import Ending
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import Deconv, Grid, Output
from fcn_edge.video.stable import Stable

FRAME = 180, 320
CELLS = 19, 33
ENDING = Ending(CELLS, FRAME, FRAME, FRAME)
GRIDS: list[Grid] = ["half_pixel", "align_corners", Deconv(16, 60)]  # the last one's scores reach beyond the frame


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft blots, of which no part looks like another."""
    coarse = np.random.default_rng(seed).integers(0, 256, (height // 12, width // 12, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def noise(seed: int, strength: float) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, strength, (2, *CELLS)).astype(np.float32)


def box(left: int, wide: int = 12, strength: float = 4.0) -> np.ndarray:
    """Scores of two classes: the second one in a box of cells."""
    scores = np.zeros((2, *CELLS), np.float32)
    scores[0] = strength
    scores[:, 5:14, left : left + wide] = [[[0]], [[strength]]]
    return scores


def labels(scores: np.ndarray) -> np.ndarray:
    return decode(scores, FRAME, "align_corners")


def test_labels_of_a_still_picture_come_to_rest():
    frame, steady = texture(*FRAME), Stable("align_corners")
    plain = [box(8, strength=1.0) + noise(number, 1.0) for number in range(30)]
    steadied = [steady(scores, frame, ENDING) for scores in plain]
    truth = labels(box(8))

    def changes(all_scores: list[np.ndarray]) -> float:
        maps = [labels(scores) for scores in all_scores[10:]]
        return float(np.mean([a != b for a, b in pairwise(maps)]))

    def right(all_scores: list[np.ndarray]) -> float:
        return float(np.mean([labels(scores) == truth for scores in all_scores[10:]]))

    assert changes(steadied) < 0.4 * changes(plain)
    assert right(steadied) > right(plain) + 0.1


@pytest.mark.parametrize("step", [0, 8, -13, 25])
def test_the_memory_moves_with_the_picture(step: int):
    world = texture(400, 1200, seed=3)
    steady = Stable("align_corners")
    cell = FRAME[1] / (CELLS[1] - 1)
    for number in range(12):
        left = 400 + step * number
        frame = world[100 : 100 + FRAME[0], left : left + FRAME[1]]
        thing = round(10 - (left - 400) / cell)  # where it is now, in cells
        scores = np.zeros((2, *CELLS), np.float32)
        scores[0] = 1
        shown = slice(max(0, thing), max(0, thing + 12))
        scores[0, 5:14, shown], scores[1, 5:14, shown] = 0, 1
        steadied = steady(scores, frame, ENDING)
    wrong = (labels(steadied) != labels(scores)).mean()
    assert wrong < 0.01  # the thing's edges were rounded to cells; a memory that stays behind would be at 0.1


@pytest.mark.parametrize("grid", GRIDS)
def test_where_nothing_is_as_it_was_only_the_new_scores_count(grid: Grid):
    steady = Stable(grid)
    steady(box(2), np.zeros((*FRAME, 3), np.uint8), ENDING)
    new = box(18)
    np.testing.assert_allclose(steady(new, np.full((*FRAME, 3), 200, np.uint8), ENDING), new, atol=1e-4)


def test_what_came_into_view_has_no_past():
    world = texture(400, 1200, seed=3)
    steady = Stable("align_corners")
    for left in (0, 16):  # almost 2 of 33 columns are new at the right
        scores = np.full((2, *CELLS), float(left), np.float32)
        steadied = steady(scores, world[100 : 100 + FRAME[0], 400 + left : 720 + left], ENDING)
    assert steadied[:, :, -1].mean() > 12  # chance finds some likeness
    assert steadied[:, :, 3:25].mean() < 8


@pytest.mark.parametrize("change", ["scores", "frame", "ending"])
def test_another_size_begins_anew(change: str):
    steady = Stable("align_corners")
    steady(box(2), texture(*FRAME), ENDING)
    new, frame, ending = box(18), texture(*FRAME), ENDING
    if change == "scores":
        new = np.ascontiguousarray(new[:, :-1])
    elif change == "frame":
        frame = texture(90, 160)
    else:
        ending = Ending(None, FRAME, (90, 320), FRAME)
    np.testing.assert_array_equal(steady(new, frame, ending), new)


def test_scores_that_are_not_numbers_pass_through_and_leave_nothing_behind():
    steady, frame = Stable("align_corners"), texture(*FRAME)
    broken = box(8)
    broken[0, 3, :10], broken[1, 7, :10], broken[0, 9, :10] = np.nan, np.inf, -np.inf
    for _ in range(2):
        np.testing.assert_array_equal(steady(broken, frame, ENDING)[:, [3, 7, 9], :10], broken[:, [3, 7, 9], :10])
    np.testing.assert_allclose(steady(box(8), frame, ENDING), box(8), atol=1e-4)


def test_the_memory_is_its_own():
    steady, frame = Stable("align_corners"), texture(*FRAME)
    scores = box(8)
    steady(scores, frame, ENDING)
    scores[:] = 1e6
    assert steady(box(8), frame, ENDING).max() < 10


@pytest.mark.parametrize("size", [(1, 1), (3, 5000), (5000, 3), (17, 16), (720, 1280)])
@pytest.mark.parametrize("cells", [(1, 1), (1, 40), (7, 3)])
@pytest.mark.parametrize("grid", ["half_pixel", "align_corners"])
def test_every_size_is_taken(size: tuple[int, int], cells: tuple[int, int], grid: Grid):
    steady, ending = Stable(grid), Ending(cells, size, size, size)
    frame = random_frames(*size, 3)
    scores = np.random.default_rng(1).normal(size=(3, *cells)).astype(np.float32)
    for _ in range(3):
        steadied = steady(scores, frame, ending)
    np.testing.assert_allclose(steadied, scores, atol=1e-4)  # nothing moved


@pytest.mark.parametrize("resize", ["fit", "stretch", "native", "letterbox"])
def test_every_way_of_resizing_is_followed(tmp_path: Path, resize):
    """Colours are classes here, so labels that lag behind a moving picture are wrong."""
    world = np.repeat(np.repeat(random_frames(8, 30, 3, seed=2) // 128 * 255, 32, axis=0), 32, axis=1)
    frames = [np.ascontiguousarray(world[20:180, 100 + 7 * n : 420 + 7 * n]) for n in range(8)]
    size = None if resize == "native" else 160
    with Segmenter(write_onnx(tmp_path / "tiny.onnx"), precision="fp32", size=size, resize=resize) as segmenter:
        plain = [result.labels for result in segmenter.stream(frames)]
        steadied = [result.labels for result in segmenter.stream(frames, Stable(SPEC.output.grid))]
    assert np.mean([ours != theirs for ours, theirs in zip(steadied, plain, strict=True)]) < 0.04


def test_a_segmenter_decodes_what_it_is_given_instead(tmp_path: Path):
    frames = list(random_frames(4, 32, 32, 3))
    seen = []

    def steady(scores: np.ndarray, frame: np.ndarray, ending: Ending) -> np.ndarray:
        seen.append(frame)
        assert ending.labels == frame.shape[:2]
        np.testing.assert_array_equal(scores, scores_of(frame[None])[0])
        return scores[::-1].copy()

    with Segmenter(write_onnx(tmp_path / "tiny.onnx"), precision="fp32") as segmenter:
        results = [*segmenter.stream(frames[:3], steady), segmenter.segment(frames[3], steady)]
    for frame, result in zip(frames, results, strict=True):
        np.testing.assert_array_equal(result.labels, scores_of(frame[None])[0, ::-1].argmax(0))
        assert list(result.timings) == ["prepare", "infer", "steady", "decode"]
    assert all(a is b for a, b in zip(seen, frames, strict=True))


def test_finished_labels_cannot_be_steadied(tmp_path: Path):
    spec = replace(SPEC, output=Output("labels"))
    with (
        Segmenter(write_onnx(tmp_path / "tiny.onnx", spec, labels=True), precision="fp32") as segmenter,
        pytest.raises(ModelError, match="--output scores") as refusal,
    ):
        segmenter.segment(random_frames(32, 32, 3), Stable("half_pixel"))
    assert "\n" not in str(refusal.value)
