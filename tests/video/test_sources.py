from __future__ import annotations

import base64
import zlib
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest

from fcn_edge.errors import SourceError
from fcn_edge.video import open_source
from fcn_edge.video.frames import Frame
from fcn_edge.video.pictures import MAX_PIXELS, read_picture

# 8x8 pixels of CMYK (0, 200, 100, 20) out of 255, inverted as Adobe's programs store it. cv2 cannot write one.
CMYK_JPEG = base64.b64decode(
    "/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdo"
    "Zz5NcXlwZHhcZWdj/8AAFAgACAAIBEMRAE0RAFkRAEsRAP/EABYAAQEBAAAAAAAAAAAAAAAAAAYEB//EABQQAQAAAAAAAAAAAAAA"
    "AAAAAAD/2gAOBEMATQBZAEsAAD8A0AaXGz//2Q=="
)
CMYK_AS_BGR = (144, 52, 235)  # 255 - ink, times 255 - black


def frames_of(uri: str | Path) -> list[Frame]:
    with open_source(uri) as source:
        return list(source)


def exif_jpeg(image: np.ndarray, orientation: int) -> bytes:
    """A JPEG that says how it is to be turned: one EXIF tag in front."""
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01" + bytes([0, orientation]) + b"\0\0\0\0\0\0"
    body = b"Exif\0\0" + tiff
    data = cv2.imencode(".jpg", image)[1].tobytes()
    return data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]


@pytest.mark.parametrize(
    ("kind", "pixels", "expected"),
    [
        ("gray", np.full((4, 6), 77, np.uint8), (77, 77, 77)),
        ("gray of 16 bits", np.full((4, 6), 77 * 256, np.uint16), (77, 77, 77)),
        ("colour of 16 bits", np.full((4, 6, 3), (10 * 256, 20 * 256, 30 * 256), np.uint16), (10, 20, 30)),
        ("alpha", np.full((4, 6, 4), (10, 20, 30, 0), np.uint8), (10, 20, 30)),
        ("alpha of 16 bits", np.full((4, 6, 4), (10 * 256, 20 * 256, 30 * 256, 9), np.uint16), (10, 20, 30)),
        ("one pixel", np.full((1, 1, 3), (10, 20, 30), np.uint8), (10, 20, 30)),
    ],
)
def test_every_kind_of_picture_becomes_8_bit_bgr(tmp_path, kind, pixels, expected):
    cv2.imwrite(str(tmp_path / "a.png"), pixels)

    image = read_picture(tmp_path / "a.png")

    assert image.dtype == np.uint8
    assert image.shape == (*pixels.shape[:2], 3)
    assert (image == expected).all()


def test_a_cmyk_jpeg_becomes_bgr(tmp_path):
    (tmp_path / "a.jpg").write_bytes(CMYK_JPEG)
    assert np.abs(read_picture(tmp_path / "a.jpg").astype(int) - CMYK_AS_BGR).max() <= 6


def test_exif_orientation_is_applied(tmp_path):
    lying = np.zeros((20, 40, 3), np.uint8)
    lying[:, :10] = 255  # its left is the top of the upright picture
    (tmp_path / "a.jpg").write_bytes(exif_jpeg(lying, orientation=6))

    upright = read_picture(tmp_path / "a.jpg")

    assert upright.shape == (40, 20, 3)
    assert upright[:8].min() > 200
    assert upright[12:].max() < 50


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.jpg", b"", "empty"),
        ("a.jpg", b"no picture at all", "not a picture"),
        ("a.png", cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (99, 99, 3)))[1][:5000], "cut off"),
        ("a.jpg", cv2.imencode(".jpg", np.random.default_rng(0).integers(0, 255, (99, 99, 3)))[1][:3000], "broken"),
    ],
)
def test_a_broken_picture_is_named_with_what_is_wrong(tmp_path, name, data, words):
    (tmp_path / name).write_bytes(bytes(data))
    with pytest.raises(SourceError, match=rf"{name}.*{words}"):
        frames_of(tmp_path / name)


def test_a_picture_over_the_limit_is_refused_with_the_limit(tmp_path):
    def chunk(kind: bytes, content: bytes) -> bytes:
        return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")

    sides = (40_001).to_bytes(4, "big") + (40_000).to_bytes(4, "big")
    rows = chunk(b"IHDR", sides + b"\x08\0\0\0\0") + chunk(b"IDAT", zlib.compress(bytes(40_002) * 9))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + rows + chunk(b"IEND", b""))

    with pytest.raises(SourceError, match=rf"huge.png.*{MAX_PIXELS // 10**6} million pixels"):
        read_picture(tmp_path / "huge.png")


class TestFolders:
    def test_one_broken_picture_among_good_ones_is_named_and_skipped(self, tmp_path, cat):
        for name in ("a.jpg", "c.jpg"):
            (tmp_path / name).write_bytes(cat.read_bytes())
        (tmp_path / "b.jpg").write_bytes(cat.read_bytes()[:5000])

        with open_source(tmp_path) as source:
            frames = list(source)

        assert [(frame.sequence, frame.name) for frame in frames] == [(0, "a"), (1, "c")]
        assert len(source.problems) == 1
        assert "b.jpg" in source.problems[0]

    def test_pictures_that_differ_only_in_suffix_keep_different_names(self, tmp_path):
        for name in ("a.jpg", "a.png", "b.png"):
            cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
        assert [frame.name for frame in frames_of(tmp_path)] == ["a.jpg", "a.png", "b"]

    def test_a_glob_takes_what_it_matches_in_order(self, tmp_path):
        for name in ("2.png", "1.png", "1.jpg"):
            cv2.imwrite(str(tmp_path / name), np.zeros((4, 4, 3), np.uint8))
        assert [frame.name for frame in frames_of(f"{tmp_path}/*.png")] == ["1", "2"]

    def test_a_folder_whose_name_looks_like_a_glob_is_a_folder(self, tmp_path):
        folder = tmp_path / "[1]"
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), np.zeros((4, 4, 3), np.uint8))
        assert len(frames_of(folder)) == 1

    @pytest.mark.parametrize("files", [[], ["notes.txt"]])
    def test_a_folder_without_pictures_is_refused(self, tmp_path, files):
        for name in files:
            (tmp_path / name).touch()
        with pytest.raises(SourceError, match=r"Name a folder with \.jpg or \.png"):
            open_source(tmp_path)


@pytest.mark.parametrize(
    ("uri", "words"),
    [
        ("nowhere.jpg", "no such file"),
        ("nowhere/*.jpg", "matches nothing"),
        ("97", "no such camera"),
        ("v4l2:///dev/null", "not a camera"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(uri, words):
    with pytest.raises(SourceError, match=words) as caught:
        open_source(uri)
    assert "\n" not in str(caught.value)


def test_the_demo_moves_and_always_looks_the_same():
    with open_source("demo:") as source, open_source("demo:") as again:
        frames = [frame for frame, _ in zip(source, range(4), strict=False)]
        first = next(iter(again))

    assert frames[0].image.shape == (720, 1280, 3)
    assert [frame.time for frame in frames] == [Fraction(n, 30) for n in range(4)]
    assert (frames[0].image == first.image).all()
    assert (frames[0].image != frames[3].image).any()


def test_the_demo_takes_the_size_and_rate_that_are_asked_for():
    with open_source("demo:#size=48x64,rate=10") as source:
        frames = [frame for frame, _ in zip(source, range(3), strict=False)]
    assert source.size == (48, 64)
    assert frames[0].image.shape == (48, 64, 3)
    assert [frame.time for frame in frames] == [Fraction(n, 10) for n in range(3)]


TURNS = {
    "90": lambda image: np.rot90(image, -1),
    "180": lambda image: np.rot90(image, 2),
    "270": lambda image: np.rot90(image),
    "horizontal": lambda image: image[:, ::-1],
    "vertical": lambda image: image[::-1],
}


class TestReplay:
    @pytest.mark.parametrize("flip", TURNS)
    def test_a_picture_is_turned_or_mirrored(self, tmp_path, flip):
        image = np.random.default_rng(0).integers(0, 255, (4, 6, 3)).astype(np.uint8)
        cv2.imwrite(str(tmp_path / "a.png"), image)
        (frame,) = frames_of(f"{tmp_path}/a.png#flip={flip}")
        assert (frame.image == TURNS[flip](image)).all()

    def test_a_video_that_begins_again_goes_on_counting(self, make_video, levels):
        path = make_video(frames=10, rate=Fraction(25))
        with open_source(f"{path}#loop") as source:
            frames = [frame for frame, _ in zip(source, range(25), strict=False)]
        assert source.total is None
        assert [frame.sequence for frame in frames] == list(range(25))
        assert [frame.time for frame in frames] == [Fraction(n, 25) for n in range(25)]
        assert [levels(frame.image) for frame in frames] == [n % 10 % 8 for n in range(25)]
        assert len({frame.name for frame in frames}) == 25

    def test_what_is_broken_is_told_once_however_often_it_comes(self, tmp_path, cat):
        (tmp_path / "a.jpg").write_bytes(cat.read_bytes())
        (tmp_path / "b.jpg").write_bytes(cat.read_bytes()[:5000])
        with open_source(f"{tmp_path}#loop") as source:
            names = [frame.name for frame, _ in zip(source, range(4), strict=False)]
        assert names == ["a", "a_1", "a_2", "a_3"]
        assert len(source.problems) == 1

    def test_a_folder_of_broken_pictures_does_not_go_round_for_ever(self, tmp_path):
        for name in ("a.jpg", "b.jpg"):
            (tmp_path / name).write_bytes(b"no picture")
        assert frames_of(f"{tmp_path}#loop") == []
