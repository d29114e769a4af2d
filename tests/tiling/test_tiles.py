"""Tiles against the whole picture, for networks with every kind of geometry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import SPEC, random_frames, scores_of, write_onnx

from fcn_edge import Segmenter
from fcn_edge.data import read_image
from fcn_edge.errors import ModelError, UsageError
from fcn_edge.resources import demo_photos
from fcn_edge.runtime.files import bundled, read_spec
from fcn_edge.spec import Output
from fcn_edge.tiling import open_tiling
from fcn_edge.tiling.cuts import smallest

torch = pytest.importorskip("torch")
pytest.importorskip("onnx")
from forms import SMALL_SIZES, narrow  # noqa: E402

from fcn_edge.models.checkpoint import untrained  # noqa: E402
from fcn_edge.models.lite import Head32  # noqa: E402
from fcn_edge.onnx_export import export  # noqa: E402

GEOMETRIES = [
    ("fcn8s", "same"),  # transposed convolutions, crops, a grid of a deconvolution
    ("fcn8s", "paper"),  # 100 pixels of border within the network
    ("fcn8s-interp", "same"),  # any side, corners aligned, resized to the size of a skip
    ("fcns-vgg16", "same"),  # scores at stride 1; its graph does not say how far they look
    ("fcn-alexnet", "same"),
    ("fcn8s-lite-small", "same"),  # sides of 32k+1
]


def photo(height: int, width: int) -> np.ndarray:
    """Noise on many scales: something to see everywhere."""
    random = np.random.default_rng(1)
    layers = [random.integers(0, 256, (-(-height // step), -(-width // step), 3), np.uint8) for step in (1, 9, 70)]
    grown = [cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR) for layer in layers]
    return np.mean(grown, axis=0).astype(np.uint8)


OVERLAPS = {"fcns-vgg16": 224}  # 106 pixels of the trunk, and a cell of each of five decoder stages: 62


def smallest_side(model: Path, overlap: int | None = None) -> int:
    spec = read_spec(model)
    return smallest(spec, open_tiling(spec, model, None, overlap).field)


@pytest.fixture(params=GEOMETRIES, ids="-".join)
def model(request, tmp_path: Path, monkeypatch) -> Path:
    """A network's file, with something in each of its weights, and without a mean over all of its input."""
    variant, padding = request.param
    torch.manual_seed(0)
    with narrow():
        network, spec = untrained(variant, padding=padding)
    for parameter in network.parameters():
        if parameter.ndim == 4 and not parameter.any():
            torch.nn.init.kaiming_normal_(parameter)
    monkeypatch.setattr(Head32, "forward", without_context)
    return export(network, spec, tmp_path / "model.onnx", [photo(64, 64)], SMALL_SIZES[:1]).path


def without_context(head: Head32, x):
    return head.score(torch.relu(head.project_local(torch.relu(head.local(x)))))


def test_joined_tiles_are_the_whole_picture(model: Path):
    overlap = OVERLAPS.get(read_spec(model).variant)
    least = smallest_side(model, overlap)
    with (
        Segmenter(model, "onnxruntime", "fp32", resize="tiles", size=least, overlap=overlap) as tiles,
        Segmenter(model, "onnxruntime", "fp32", resize="native") as native,
    ):
        assert tiles.tiling is not None
        assert not tiles.tiling.field.pooled
        sides = tiles.tiling.cut((least + 100, least + 200))
        frame = photo(sides.rows.network, sides.columns.network)  # no border of another colour
        assert tiles.tiling.cut(frame.shape[:2]).tiles >= 4
        joined, whole = tiles(frame), native(frame)
    assert joined.scores is not None
    assert whole.scores is not None
    assert joined.scores.shape == whole.scores.shape
    scale = float(np.abs(whole.scores).max())
    np.testing.assert_allclose(joined.scores, whole.scores, atol=1e-4 * scale)
    assert (joined.labels == whole.labels).mean() > 0.9999


def test_a_picture_of_one_tile_is_segmented_as_native_does(tmp_path: Path):
    path = write_onnx(tmp_path / "tiny.onnx")
    frame = random_frames(100, 61, 3)
    with (
        Segmenter(path, "onnxruntime", resize="tiles") as tiles,
        Segmenter(path, "onnxruntime", resize="native") as native,
    ):
        np.testing.assert_array_equal(tiles(frame).labels, native(frame).labels)
        assert tiles.network_size((100, 61)) == native.network_size((100, 61)) == (104, 64)


@pytest.mark.parametrize("size", [(1, 1), (1, 700), (700, 1), (433, 611)])
def test_labels_have_the_frames_size_and_are_exact(tmp_path: Path, size: tuple[int, int]):
    frame = random_frames(*size, 3)
    with Segmenter(write_onnx(tmp_path / "tiny.onnx"), "onnxruntime", "fp32", resize="tiles", size=144) as segmenter:
        result = segmenter(frame)
    np.testing.assert_array_equal(result.labels, scores_of(frame[None]).argmax(1)[0])
    assert set(result.timings) == {"prepare", "infer", "decode"}


def test_a_stream_gives_its_frames_in_order(tmp_path: Path):
    frames = [random_frames(300, 200, 3, seed=seed) for seed in range(3)]
    with Segmenter(write_onnx(tmp_path / "tiny.onnx"), "onnxruntime", "fp32", resize="tiles", size=144) as segmenter:
        for frame, result in zip(frames, segmenter.stream(frames), strict=True):
            assert result.frame is frame
            np.testing.assert_array_equal(result.labels, scores_of(frame[None]).argmax(1)[0])


def test_strips_give_the_labels_that_all_scores_at_once_give(tmp_path: Path):
    """Rows come out as they are settled: none twice, none left out, across every seam."""
    least = smallest_side(bundled()["fcn8s-lite-small"])
    frame = photo(least + 300, least + 40)
    with Segmenter("fcn8s-lite-small", "onnxruntime", resize="tiles", size=least) as segmenter:
        tiling = segmenter.tiling
        assert tiling is not None
        whole = segmenter(frame).labels
        sides = tiling.cut(frame.shape[:2])
        assert len(sides.rows.origins) > 1

        def infer(tile, network):
            return segmenter.infer_tile(tile, network, {})

        strips = list(tiling.strips(sides, lambda first, last: frame[first:last], infer))
        rows = np.concatenate([tiling.labels(sides, strip) for strip in strips])
        np.testing.assert_array_equal(rows, whole)
        resumed = next(tiling.strips(sides, lambda first, last: frame[first:last], infer, 1, strips[0].seam))
        np.testing.assert_array_equal(resumed.scores, strips[1].scores)


def test_what_is_pooled_over_the_whole_input_is_told(tmp_path: Path):
    with Segmenter("fcn8s-lite", resize="tiles") as segmenter:
        assert "each tile is taken as a whole picture" in segmenter.choice


class TestRefused:
    def test_tiles_that_are_smaller_than_what_a_score_sees(self):
        with pytest.raises(UsageError, match=r"513 pixels are too small for fcn8s-lite: a score sees \d+ of them"):
            Segmenter("fcn8s-lite", resize="tiles", size=513)

    def test_a_smaller_overlap_lets_them_be_smaller(self):
        with Segmenter("fcn8s-lite", resize="tiles", size=513, overlap=64) as segmenter:
            assert segmenter.network_size((2000, 2000)) == (513, 513)

    def test_a_model_of_finished_labels(self, tmp_path: Path):
        path = write_onnx(tmp_path / "labels.onnx", replace(SPEC, output=Output(kind="labels")), labels=True)
        with pytest.raises(ModelError, match="no scores to blend"):
            Segmenter(path, resize="tiles")

    def test_a_file_that_does_not_say_how_far_it_looks(self, tmp_path: Path):
        with pytest.raises(ModelError, match=r"is read from an ONNX file.*--overlap PIXELS"):
            open_tiling(SPEC, tmp_path / "model.tflite", None, None)
        assert open_tiling(SPEC, tmp_path / "model.tflite", None, 20).field.pixels == 41

    def test_an_overlap_without_tiles(self):
        with pytest.raises(UsageError, match="Add --resize tiles"):
            Segmenter("fcn8s-lite", overlap=10)

    def test_a_grid_whose_scores_lie_elsewhere_in_every_tile(self, tmp_path: Path):
        crooked = replace(SPEC, sides="k*stride", output=Output(stride=8, grid="align_corners"))
        with pytest.raises(ModelError, match="do not lie alike"):
            open_tiling(crooked, tmp_path / "model.onnx", None, 20)


def test_tiles_of_a_bundled_model_mostly_agree_with_the_whole_picture():
    """Its context is a mean over each tile: how many labels that changes stands in docs/tiles.md."""
    least = smallest_side(bundled()["fcn8s-lite"])
    frame = cv2.resize(read_image(demo_photos()[0]), (least + 500, least + 100))
    with Segmenter("fcn8s-lite", "onnxruntime", "fp32", resize="tiles", size=least) as tiles:
        cut = tiles(frame).labels
    with Segmenter("fcn8s-lite", "onnxruntime", "fp32", resize="native") as native:
        assert (cut == native(frame).labels).mean() > 0.8
