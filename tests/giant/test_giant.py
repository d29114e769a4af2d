"""Pictures in strips: what is written, what an interrupt leaves, and what a second start makes of it."""

from __future__ import annotations

import resource
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny import BIAS, SPEC, random_frames, scores_of, write_onnx

from fcn_edge import Segmenter
from fcn_edge.data.reading import read_mask
from fcn_edge.errors import SinkError
from fcn_edge.giant import Wanted, segment_picture
from fcn_edge.giant.picture import Done
from fcn_edge.video.writing import is_ours

SIZE = (500, 411)
GO_ON = threading.Event()  # never set


@pytest.fixture
def segmenter(tmp_path: Path) -> Iterator[Segmenter]:
    with Segmenter(write_onnx(tmp_path / "tiny.onnx"), "onnxruntime", "fp32", resize="tiles", size=144) as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    cv2.imwrite(str(tmp_path / "giant.png"), random_frames(*SIZE, 3))
    return tmp_path / "giant.png"


@pytest.fixture
def expected() -> np.ndarray:
    return scores_of(random_frames(*SIZE, 3)[None]).argmax(1)[0]


def stopping_after(tiles: int) -> tuple[threading.Event, Callable[[int, int], None]]:
    stop = threading.Event()
    return stop, lambda done, total: stop.set() if done == tiles else None


def kept_folder(target: Path) -> Path:
    return target.with_name(f".{target.name}.part")


def test_labels_become_a_png_of_the_pictures_size_with_the_classes_as_palette(segmenter, source, expected, tmp_path):
    target = tmp_path / "out.png"
    done = segment_picture(segmenter, source, Wanted(target), GO_ON)
    np.testing.assert_array_equal(read_mask(target), expected)
    with Image.open(target) as image:
        palette = image.getpalette()
    assert palette is not None
    assert palette[:12] == [value for color in SPEC.palette for value in color]
    assert (done.size, done.kept, done.finished) == (SIZE, 0, done.strips)
    assert done.strips > 2
    assert done.shares["red"] == pytest.approx((expected == 3).mean())
    assert is_ours(target)
    assert not kept_folder(target).exists()


def test_labels_become_a_tiled_tiff(segmenter, source, expected, tmp_path):
    tifffile = pytest.importorskip("tifffile", reason="tifffile is not there: the extra giant brings it")
    target = tmp_path / "out.tif"
    segment_picture(segmenter, source, Wanted(target), GO_ON)
    with tifffile.TiffFile(target) as tiff:
        page = tiff.pages[0]
        assert page.is_tiled
        assert page.photometric.name == "PALETTE"
        assert [tuple(color) for color in (page.colormap[:, :4].T // 257)] == list(SPEC.palette)
        np.testing.assert_array_equal(page.asarray(), expected)
    np.testing.assert_array_equal(read_mask(target), expected)  # Pillow's reader agrees
    assert is_ours(target)


@pytest.mark.parametrize("name", ["overlay.png", "overlay.tif"])
def test_the_overlay_is_the_one_of_the_whole_picture(segmenter, source, expected, tmp_path, name):
    from fcn_edge.overlay import overlay

    if name.endswith("tif"):
        pytest.importorskip("tifffile")
    segment_picture(segmenter, source, Wanted(None, tmp_path / name, alpha=0.4), GO_ON)
    whole = overlay(random_frames(*SIZE, 3), expected.astype(np.uint8), SPEC.palette, 0.4)
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / name)), whole)


def test_classes_that_are_not_asked_for_become_background(segmenter, source, expected, tmp_path):
    segment_picture(segmenter, source, Wanted(tmp_path / "out.png", classes=(2,)), GO_ON)
    np.testing.assert_array_equal(read_mask(tmp_path / "out.png"), np.where(expected == 2, 2, 0))


def test_a_tiff_that_lies_on_the_ground_gives_labels_that_lie_there(segmenter, tmp_path):
    tifffile = pytest.importorskip("tifffile")
    scale, tie = (33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0, 0, 0, 500000.0, 4100000.0, 0), True)
    frame = random_frames(*SIZE, 3)
    tifffile.imwrite(tmp_path / "map.tif", frame[..., ::-1], photometric="rgb", extratags=[scale, tie])
    segment_picture(segmenter, tmp_path / "map.tif", Wanted(tmp_path / "out.tif"), GO_ON)
    with tifffile.TiffFile(tmp_path / "out.tif") as tiff:
        assert tiff.pages[0].tags[33550].value == scale[3]
        assert tiff.pages[0].tags[33922].value == tie[3]


def test_a_png_by_a_tiffs_name_is_no_map(segmenter, source, expected, tmp_path):
    pytest.importorskip("tifffile")
    source.rename(tmp_path / "giant.tif")
    segment_picture(segmenter, tmp_path / "giant.tif", Wanted(tmp_path / "out.tif"), GO_ON)
    np.testing.assert_array_equal(read_mask(tmp_path / "out.tif"), expected)


class TestInterrupted:
    def test_a_second_start_goes_on_and_ends_as_if_nothing_had_been(self, segmenter, source, expected, tmp_path):
        target = tmp_path / "out.png"
        whole = tiles_of(segmenter, source, tmp_path / "whole.png")
        across = whole.tiles // whole.strips
        stop, progress = stopping_after(2 * across + 1)
        first = segment_picture(segmenter, source, Wanted(target), stop, progress)
        assert (first.finished, first.shares) == (2, {})
        assert not target.exists()
        counted: list[int] = []
        second = segment_picture(segmenter, source, Wanted(target), GO_ON, lambda done, total: counted.append(done))
        assert (second.kept, second.finished) == (2, whole.strips)
        assert counted == list(range(2 * across + 1, whole.tiles + 1))  # the two strips were not computed again
        np.testing.assert_array_equal(read_mask(target), expected)
        assert target.read_bytes() == (tmp_path / "whole.png").read_bytes()
        assert not kept_folder(target).exists()

    def test_a_stop_while_the_file_is_written_leaves_none(self, segmenter, source, expected, tmp_path):
        target = tmp_path / "out.png"
        stop, progress = stopping_after(segmenter.tiling.cut(SIZE).tiles)
        done = segment_picture(segmenter, source, Wanted(target), stop, progress)
        assert (done.finished, done.shares) == (done.strips, {})
        assert [path.name for path in tmp_path.glob("*out*") if path.is_file()] == []
        assert segment_picture(segmenter, source, Wanted(target), GO_ON).kept == done.strips
        np.testing.assert_array_equal(read_mask(target), expected)

    def test_what_is_kept_of_another_picture_is_not_used(self, segmenter, source, tmp_path):
        target = stopped(segmenter, source, tmp_path)
        other = random_frames(*SIZE, 3, seed=5)
        cv2.imwrite(str(source), other)
        done = segment_picture(segmenter, source, Wanted(target), GO_ON)
        assert done.kept == 0
        assert "the picture is another now. Begun anew." in done.notes[0]
        np.testing.assert_array_equal(read_mask(target), scores_of(other[None]).argmax(1)[0])

    def test_nor_is_that_of_another_model(self, segmenter, source, tmp_path):
        target = stopped(segmenter, source, tmp_path)
        other = write_onnx(tmp_path / "other.onnx", bias=2 * BIAS)
        with Segmenter(other, "onnxruntime", "fp32", resize="tiles", size=144) as theirs:
            done = segment_picture(theirs, source, Wanted(target), GO_ON)
        assert (done.kept, len(done.notes)) == (0, 1)
        assert "the model is another now" in done.notes[0]

    def test_of_a_damaged_strip_and_those_after_it_nothing_is_used(self, segmenter, source, expected, tmp_path):
        target = stopped(segmenter, source, tmp_path)
        strip = sorted(kept_folder(target).glob("[0-9][0-9][0-9][0-9][0-9].npz"))[1]
        data = bytearray(strip.read_bytes())
        data[len(data) // 2] ^= 255
        strip.write_bytes(data)
        done = segment_picture(segmenter, source, Wanted(target), GO_ON)
        assert done.kept < 2
        np.testing.assert_array_equal(read_mask(target), expected)

    def test_a_disk_that_fills_up_leaves_what_was_done_and_no_half_file(self, segmenter, source, expected, tmp_path):
        wanted = Wanted(tmp_path / "out.png", tmp_path / "overlay.png")
        with file_size_limit(500_000), pytest.raises(SinkError, match=r"cannot be written.*strips are kept in") as full:
            segment_picture(segmenter, source, wanted, GO_ON)
        assert "\n" not in str(full.value)
        assert not (tmp_path / "overlay.png").exists()
        assert not list(tmp_path.glob(".overlay.png.*.part"))
        done = segment_picture(segmenter, source, wanted, GO_ON)
        assert done.kept == done.strips  # they are small: it was the overlay that did not fit
        np.testing.assert_array_equal(read_mask(tmp_path / "out.png"), expected)
        assert (tmp_path / "overlay.png").stat().st_size > 500_000

    def test_a_strip_that_does_not_fit_is_not_counted(self, segmenter, source, tmp_path):
        with file_size_limit(20_000), pytest.raises(SinkError, match=r"0 of \d+ strips are kept"):
            segment_picture(segmenter, source, Wanted(tmp_path / "out.png"), GO_ON)


def test_a_file_of_somebody_else_is_left_alone_before_anything_is_computed(segmenter, source, tmp_path):
    target = tmp_path / "out.png"
    target.write_bytes(b"mine")
    counted: list[int] = []
    with pytest.raises(SinkError, match="not made by fcn-edge"):
        segment_picture(segmenter, source, Wanted(target), GO_ON, lambda done, total: counted.append(done))
    assert (target.read_bytes(), counted) == (b"mine", [])
    segment_picture(segmenter, source, Wanted(target, force=True), GO_ON)


def test_a_library_that_is_missing_is_told_before_anything_is_computed(segmenter, source, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    counted: list[int] = []
    with pytest.raises(SinkError, match=r"out\.tif: TIFF files are written.*pip install"):
        segment_picture(
            segmenter, source, Wanted(tmp_path / "out.tif"), GO_ON, lambda done, total: counted.append(done)
        )
    assert counted == []


def tiles_of(segmenter: Segmenter, source: Path, target: Path) -> Done:
    return segment_picture(segmenter, source, Wanted(target), GO_ON)


def stopped(segmenter: Segmenter, source: Path, folder: Path) -> Path:
    """The target of a run that was stopped after two strips."""
    assert segmenter.tiling is not None
    sides = segmenter.tiling.cut(SIZE)
    stop, progress = stopping_after(2 * len(sides.columns.origins))
    done = segment_picture(segmenter, source, Wanted(folder / "out.png"), stop, progress)
    assert done.finished == 2
    return folder / "out.png"


class file_size_limit:
    """Within it no file of this process grows beyond so many bytes: a full disk, as far as writing shows."""

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def __enter__(self) -> None:
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.limit, self.before[1]))

    def __exit__(self, *error: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)
