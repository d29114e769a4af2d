"""Rows that are decoded as they are asked for, against the picture decoded whole."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_edge.errors import SourceError
from fcn_edge.giant import rows
from fcn_edge.giant.rows import open_rows
from fcn_edge.video.pictures import read_picture

pytest.importorskip("pyvips", reason="pyvips is not there: the extra giant brings it")


@pytest.fixture(autouse=True)
def nothing_is_small(monkeypatch):
    monkeypatch.setattr(rows, "WHOLE", 0)


def read_all(path: Path, height: int = 70, overlap: int = 20) -> np.ndarray:
    """The picture from windows that overlap, and skip what a strip that is kept would have read."""
    source = open_rows(path)
    whole = np.zeros((*source.size, 3), np.uint8)
    for first in range(0, source.size[0], height - overlap):
        last = min(first + height, source.size[0])
        whole[first:last] = source.read(first, last)
    return whole


@pytest.fixture
def picture() -> np.ndarray:
    return cv2.resize(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8), (431, 337))


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_every_window_holds_the_rows_of_the_whole_picture(tmp_path, picture, name):
    options = [cv2.IMWRITE_WEBP_QUALITY, 101] if name.endswith("webp") else []
    cv2.imwrite(str(tmp_path / name), picture, options)
    np.testing.assert_array_equal(read_all(tmp_path / name), read_picture(tmp_path / name))


def test_a_jpeg_is_decoded_as_elsewhere_but_for_rounding(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.jpg"), picture, [cv2.IMWRITE_JPEG_QUALITY, 95])
    difference = np.abs(read_all(tmp_path / "a.jpg").astype(int) - read_picture(tmp_path / "a.jpg"))
    assert difference.mean() < 0.5
    assert difference.max() <= 4


def test_gray_palette_transparent_and_16_bit_pictures_become_8_bit_colour(tmp_path, picture):
    gray = picture[..., 0]
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "deep.png"), picture.astype(np.uint16) * 257)
    cv2.imwrite(str(tmp_path / "clear.png"), np.dstack([picture, gray]))
    Image.fromarray(picture).quantize(30).save(tmp_path / "palette.png")
    for name in ("gray", "deep", "clear", "palette"):
        path = tmp_path / f"{name}.png"
        np.testing.assert_array_equal(read_all(path), read_picture(path), err_msg=name)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_that_was_taken_sideways_stands_upright(tmp_path, picture, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Image.fromarray(picture).save(path, exif=exif, quality=95)
    shown, expected = read_all(path), read_picture(path)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 0.5


def test_rows_that_nobody_wants_are_passed_over(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    source = open_rows(tmp_path / "a.png")
    np.testing.assert_array_equal(source.read(201, 300), picture[201:300])
    np.testing.assert_array_equal(source.read(280, 337), picture[280:])


def test_a_picture_that_breaks_off_says_where(tmp_path, picture):
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match=r"a\.png: row \d+ and on cannot be read"):
        read_all(tmp_path / "a.png")


def test_what_is_no_picture_is_refused_in_one_line(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not a picture at all")
    with pytest.raises(SourceError) as refused:
        open_rows(tmp_path / "a.png")
    assert "\n" not in str(refused.value)
