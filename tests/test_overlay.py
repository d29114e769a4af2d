import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcn_edge.errors import FcnEdgeError, SpecError
from fcn_edge.overlay import draw_legend, draw_notice, draw_text, heat_map, overlay
from fcn_edge.spec import VOC_CLASSES, Deconv, voc_palette

PALETTE = voc_palette(21)
LEGEND = list(zip(VOC_CLASSES, PALETTE, strict=True))


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 200), st.integers(0, 99), st.floats(0, 1), st.integers(1, 254))
def test_a_class_is_blended_and_the_rest_is_left_alone(height, width, seed, alpha, classes):
    frame, palette = picture(height, width, seed), voc_palette(classes)
    labels = np.random.default_rng(seed).integers(0, 256, (height, width), np.uint8)
    labels[:, : width // 2] = 0
    colors = np.zeros((256, 3))
    colors[:classes] = palette
    blended = frame * (1 - alpha) + colors[labels][..., ::-1] * alpha
    expected = np.where(((labels == 0) | (labels >= classes))[..., None], frame, blended)
    assert np.abs(overlay(frame, labels, palette, alpha) - expected).max() <= 1
    np.testing.assert_array_equal(frame, picture(height, width, seed))


def test_full_alpha_gives_the_palette_in_bgr():
    labels = np.array([[15]], np.uint8)
    assert overlay(np.full((1, 1, 3), 9, np.uint8), labels, PALETTE, 1.0)[0, 0].tolist() == list(PALETTE[15][::-1])


def test_a_part_of_a_picture_and_a_read_only_one_are_taken():
    whole, labels = picture(40, 50), np.full((40, 50), 3, np.uint8)
    whole.flags.writeable = False
    part = overlay(whole[5:25, 10:40], labels[5:25, 10:40], PALETTE)
    np.testing.assert_array_equal(part, overlay(whole, labels, PALETTE)[5:25, 10:40])
    assert part.flags.c_contiguous
    assert part.flags.writeable


@pytest.mark.parametrize(
    ("frame", "labels", "alpha", "said"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), 0.5, "A frame is"),
        (np.zeros((4, 4, 4), np.uint8), np.zeros((4, 4), np.uint8), 0.5, "A frame is"),
        (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4), np.uint8), 0.5, "float32"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), 0.5, "decode them"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.int64), 0.5, "int64"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), 1.5, r"1\.5"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), float("nan"), "nan"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(frame, labels, alpha, said):
    with pytest.raises(FcnEdgeError, match=said) as refusal:
        overlay(frame, labels, PALETTE, alpha)
    assert "\n" not in str(refusal.value)


def test_heat_is_where_the_class_is():
    scores = np.zeros((3, 5, 9), np.float32)
    scores[1, :, :4] = 20
    scores[0, :, 4:] = 20
    frame = np.full((50, 90, 3), 100, np.uint8)
    heat = heat_map(frame, scores, 1)
    assert (heat[:, 50:] == 100).all()
    blue, _, red = heat[25, 10].astype(int)
    assert red > 100 > blue
    half = heat_map(frame, scores[:, :, 4:5] * 0, 1)
    np.testing.assert_array_equal(half, np.broadcast_to(half[0, 0], half.shape))


def test_heat_lies_on_the_grid_of_the_scores():
    scores = np.random.default_rng(1).standard_normal((5, 6, 7), np.float32)
    frame = picture(48, 56)
    cropped_to_centers = heat_map(frame, scores, 1, Deconv(8, 4))
    np.testing.assert_array_equal(cropped_to_centers, heat_map(frame, scores, 1, "half_pixel"))
    corner = heat_map(frame[:1, :1], scores[:, :1, :1], 1)
    np.testing.assert_array_equal(heat_map(frame, scores, 1, "align_corners")[:1, :1], corner)


def test_heat_of_one_half_is_where_two_classes_meet():
    scores = np.array([[[4, 0]], [[0, 4]]], np.float32)
    frame = picture(1, 1).repeat(9, axis=1)
    first, second = heat_map(frame, scores, 0, "align_corners"), heat_map(frame, scores, 1, "align_corners")
    np.testing.assert_array_equal(first, second[:, ::-1])
    even = heat_map(frame[:, :1], np.zeros((2, 1, 1), np.float32), 0)
    np.testing.assert_array_equal(first[:, 4:5], even)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_heat_of_broken_scores_is_still_a_picture(value):
    scores = np.zeros((3, 4, 4), np.float32)
    scores[:, 1:3] = value
    scores[1, 0] = value
    assert heat_map(picture(20, 20), scores, 1).shape == (20, 20, 3)


def test_heat_of_a_class_that_is_not_there_is_refused():
    with pytest.raises(FcnEdgeError, match="classes 0 to 2"):
        heat_map(picture(8, 8), np.zeros((3, 2, 2), np.float32), 3)
    with pytest.raises(SpecError, match="too few"):
        heat_map(picture(80, 80), np.zeros((3, 2, 2), np.float32), 1, Deconv(8))


SIZES = [(1, 1), (7, 300), (36, 64), (64, 64), (180, 320), (656, 368), (720, 1280), (3648, 5472)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [0, 1, 3, 21])
def test_a_legend_covers_at_most_a_quarter_and_only_its_corner(size, count):
    image = np.full((*size, 3), 200, np.uint8)
    draw_legend(image, LEGEND[:count])
    rows, columns = np.nonzero((image != 200).any(axis=2))
    if len(rows):
        assert rows.max() == size[0] - 1
        assert columns.min() == 0
        assert (size[0] - rows.min()) * (columns.max() + 1) <= 0.26 * size[0] * size[1]
    else:
        assert count == 0 or min(size) < 64


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["", "29.9 FPS", "a line that is far too long for a small picture " * 3])
def test_text_stays_in_its_corner(size, text):
    image = np.full((*size, 3), 200, np.uint8)
    draw_text(image, text)
    changed = (image != 200).any(axis=2)
    assert not changed[size[0] // 2 + 20 :].any()
    if text == "29.9 FPS" and min(size) >= 36:
        assert changed.any()


def test_a_legend_shows_its_colors_and_the_least_important_are_left_off():
    image = np.full((240, 320, 3), 200, np.uint8)
    draw_legend(image, LEGEND)
    drawn = {tuple(color) for color in image.reshape(-1, 3).tolist()}
    shown = [PALETTE[i][::-1] in drawn for i in range(21)]
    assert all(shown[:5])
    assert not any(shown[15:])


def test_drawing_works_on_a_part_of_a_picture():
    image = np.full((400, 400, 3), 200, np.uint8)
    draw_text(image[100:300, 100:300], "29.9 FPS")
    draw_legend(image[100:300, 100:300], LEGEND[:2])
    assert (image[100:300, 100:300] != 200).any()
    image[100:300, 100:300] = 200
    assert (image == 200).all()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("text", ["", "no signal for 12 s", "a line that is far too long for a small picture " * 3])
def test_a_notice_dims_all_and_stands_in_the_middle(size, text):
    image = np.full((*size, 3), 200, np.uint8)
    draw_notice(image, text)
    written = (image > 70).any(axis=2)  # 200 dimmed
    assert not written.all()
    rows, columns = np.nonzero(written)
    if text.startswith("no") and size[0] >= 180:
        assert abs((rows.min() + rows.max()) / 2 - size[0] / 2) < 0.02 * size[0] + 2
        assert abs((columns.min() + columns.max()) / 2 - size[1] / 2) < 0.02 * size[1] + 2
    elif not text:
        assert not written.any()


def test_letters_grow_with_the_picture():
    widths = []
    for height in (360, 720, 3600):
        image = np.full((height, 2 * height, 3), 200, np.uint8)
        draw_text(image, "29.9 FPS")
        widths.append(np.nonzero((image != 200).any(axis=(0, 2)))[0].max() / height)
    assert max(widths) < 1.3 * min(widths)
    assert cv2.FONT_HERSHEY_SIMPLEX == 0
