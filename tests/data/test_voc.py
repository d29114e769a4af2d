"""Lists, pictures and index masks, from files that the tests write with real encoders."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from fcn_edge.data import Sample, check, open_list, parse_data, read_image, read_mask
from fcn_edge.errors import DataError, UsageError
from fcn_edge.spec import voc_palette

PICTURE = np.linspace(0, 255, 30 * 40 * 3).astype(np.uint8).reshape(30, 40, 3)


def write_mask(path: Path, indices: np.ndarray, bits: int = 8) -> None:
    mask = Image.fromarray(indices.astype(np.uint8))
    mask.putpalette(np.array(voc_palette(256), np.uint8).tobytes())
    mask.save(path, bits=bits)


def write_gray(path: Path, indices: np.ndarray, bits: int) -> None:
    """A gray PNG of 2 or 4 bits a pixel, which no common encoder offers."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = indices.shape
    bytewise = indices.reshape(height, -1, 8 // bits).astype(np.uint8)
    shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
    rows = np.bitwise_or.reduce(bytewise << shifts, axis=2)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """Four good samples: a, b, c in `val`; c and d in `extra`."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (tmp_path / folder).mkdir(parents=True)
    for name in "abcd":
        cv2.imwrite(str(tmp_path / f"JPEGImages/{name}.jpg"), PICTURE)
        indices = np.zeros((30, 40), np.uint8)
        indices[5:15], indices[15:16] = 20, 255
        write_mask(tmp_path / f"SegmentationClass/{name}.png", indices)
    (tmp_path / "ImageSets/Segmentation/val.txt").write_text("a\nb\n\nc\n")
    (tmp_path / "ImageSets/Segmentation/extra.txt").write_text("c\r\nd \r\n")
    return tmp_path


def test_a_palette_mask_is_read_as_the_indices_that_were_written(tmp_path: Path) -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    write_mask(tmp_path / "mask.png", indices)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), indices)
    colours = cv2.imread(str(tmp_path / "mask.png"), cv2.IMREAD_UNCHANGED)
    assert colours is not None
    assert colours.shape == (16, 16, 3)  # the trap


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_palette_of_few_bits_is_indices_too(tmp_path: Path, bits: int) -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2**bits
    write_mask(tmp_path / "mask.png", indices, bits=bits)
    assert (tmp_path / "mask.png").read_bytes()[24] == bits
    assert np.array_equal(read_mask(tmp_path / "mask.png"), indices)


def test_a_gray_mask_is_indices(tmp_path: Path) -> None:
    indices = np.arange(256, dtype=np.uint8).reshape(16, 16)
    cv2.imwrite(str(tmp_path / "mask.png"), indices)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), indices)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_a_gray_mask_of_few_bits_is_not_stretched(tmp_path: Path, bits: int) -> None:
    indices = np.arange(64, dtype=np.uint8).reshape(8, 8) % 2**bits
    write_gray(tmp_path / "mask.png", indices, bits)
    assert np.array_equal(read_mask(tmp_path / "mask.png"), indices)


@pytest.mark.parametrize("pixels", [PICTURE, np.dstack([PICTURE, PICTURE[..., 0]]), PICTURE[..., 0].astype(np.uint16)])
def test_a_mask_of_colours_or_wide_numbers_is_refused_with_the_mend(tmp_path: Path, pixels: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), pixels)
    with pytest.raises(DataError, match=r"mask\.png: .*Save it as a palette"):
        read_mask(tmp_path / "mask.png")


def test_a_mask_of_16_bits_is_not_called_coloured(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), PICTURE[..., 0].astype(np.uint16))
    with pytest.raises(DataError, match="holds 16-bit numbers, not class indices"):
        read_mask(tmp_path / "mask.png")


def test_a_missing_picture_is_not_called_a_mask(voc: Path) -> None:
    (voc / "JPEGImages/b.jpg").unlink()
    told = r"1 of 3 masks or their pictures cannot be used, first: .*b\.jpg: there is no such file\. Mend what is named"
    with pytest.raises(DataError, match=told):
        check(open_list(voc, ["val"]), 21)


def test_a_picture_is_bgr_and_turned_as_exif_says(tmp_path: Path) -> None:
    red = Image.new("RGB", (40, 30), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6
    red.save(tmp_path / "red.jpg", exif=exif)
    image = read_image(tmp_path / "red.jpg")
    assert image.shape == (40, 30, 3)
    assert image.dtype == np.uint8
    assert image[0, 0, 2] > 200 > image[0, 0, 0]


@pytest.mark.parametrize("read", [read_image, read_mask])
@pytest.mark.parametrize(("content", "says"), [(None, "no such file"), (b"", "empty"), (b"text", "not readable")])
def test_an_unreadable_file_is_named(tmp_path: Path, read, content: bytes | None, says: str) -> None:
    path = tmp_path / "x.png"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=rf"x\.png: .*{says}"):
        read(path)


def test_a_mask_that_was_cut_off_is_named(voc: Path) -> None:
    path = voc / "SegmentationClass/a.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match=r"a\.png: .*cut off"):
        read_mask(path)


def test_lists_are_joined_in_order_and_an_id_counts_once(voc: Path) -> None:
    samples = open_list(voc, ["val", "extra"])
    assert [sample.id for sample in samples] == ["a", "b", "c", "d"]
    assert samples[3] == Sample("d", voc / "JPEGImages/d.jpg", voc / "SegmentationClass/d.png")


def test_pictures_may_be_png(voc: Path) -> None:
    (voc / "JPEGImages/a.jpg").unlink()
    cv2.imwrite(str(voc / "JPEGImages/a.png"), PICTURE)
    assert open_list(voc, ["val"])[0].image.name == "a.png"


def test_without_a_folder_of_masks_there_are_none(voc: Path) -> None:
    (voc / "SegmentationClass").rename(voc / "elsewhere")
    samples = open_list(voc, ["val"])
    assert {sample.mask for sample in samples} == {None}
    with pytest.raises(DataError, match=r"3 of 3 .*no SegmentationClass"):
        check(samples, 21)


def test_a_missing_list_or_root_is_answered_with_what_is_there(voc: Path) -> None:
    with pytest.raises(DataError, match=r"no list 'test'. Its lists: extra, val"):
        open_list(voc, ["test"])
    with pytest.raises(DataError, match="no such folder"):
        open_list(voc / "nowhere", ["val"])
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val\.txt: the list is empty"):
        open_list(voc, ["val"])


def test_root_and_lists_in_one_word() -> None:
    assert parse_data("/data/voc:train,val") == (Path("/data/voc"), ["train", "val"])
    assert parse_data("C:/voc:val") == (Path("C:/voc"), ["val"])


@pytest.mark.parametrize("text", ["/data/voc", "/data/voc:", ":val", ""])
def test_a_word_without_root_or_list_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="ROOT:LIST"):
        parse_data(text)


def test_good_samples_pass_and_progress_sees_each(voc: Path) -> None:
    seen: list[object] = []
    check(open_list(voc, ["val"]), 21, progress=lambda items: (seen.append(item) or item for item in items))
    assert len(seen) == 3


def test_all_wrong_masks_are_named_at_once(voc: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_mask(voc / "SegmentationClass/a.png", np.zeros((30, 39)))
    (voc / "JPEGImages/b.jpg").unlink()
    write_mask(voc / "SegmentationClass/c.png", np.full((30, 40), 21))
    cv2.imwrite(str(voc / "SegmentationClass/d.png"), PICTURE)
    samples = open_list(voc, ["val", "extra"])
    with pytest.raises(DataError) as caught:
        check(samples, 21)
    assert str(caught.value).startswith("4 of 4 masks or their pictures cannot be used, first: ")
    assert "SegmentationClass/a.png is 39x30, its picture 40x30; all are named above." in str(caught.value)
    assert [message.split(f"{voc}/")[1][:20] for message in caplog.messages] == [
        "SegmentationClass/a.",
        "JPEGImages/b.jpg: th",
        "SegmentationClass/c.",
        "SegmentationClass/d.",
    ]
    with pytest.raises(DataError, match=r"2 of 2 .*c\.png holds index 21, 21 classes end at 20; all are named above"):
        check(samples[2:], 21)
    caplog.clear()
    with pytest.raises(DataError, match=r"1 of 1 .*b\.jpg: there is no such file\. Mend"):
        check(samples[1:2], 21)
    assert not caplog.messages


def test_a_jpeg_that_breaks_off_is_named_though_opencv_would_fill_it_with_gray(voc: Path) -> None:
    path = voc / "JPEGImages/b.jpg"
    path.write_bytes(path.read_bytes()[:-80])
    assert read_image(path).shape == (30, 40, 3)
    with pytest.raises(DataError, match=r"1 of 3 .*b\.jpg: .*cut off"):
        check(open_list(voc, ["val"]), 21)


def test_a_picture_turned_by_exif_is_compared_as_it_is_read(voc: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    Image.new("RGB", (30, 40)).save(voc / "JPEGImages/a.jpg", exif=exif)
    check(open_list(voc, ["val"]), 21)
