"""A network whose labels are known beforehand, through the real Segmenter, on files written for it.

It names the strongest colour of a pixel: blue, green or red.
"""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from fcn_edge.data import Sample, open_list
from fcn_edge.errors import DataError, UsageError
from fcn_edge.evaluation import evaluate
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import ModelSpec

BLUE, GREEN, RED, VOID = 0, 1, 2, 255
SPEC = ModelSpec(name="strongest", classes=("blue", "green", "red"), stride=1, sides="any", resize="native")


@pytest.fixture(scope="module")
def segmenter(tmp_path_factory: pytest.TempPathFactory):
    onnx = pytest.importorskip("onnx")
    make, floats, bytes_ = onnx.helper, onnx.TensorProto.FLOAT, onnx.TensorProto.UINT8
    nodes = [
        make.make_node("Cast", ["frame"], ["cast"], to=floats),
        make.make_node("Transpose", ["cast"], ["scores"], perm=[0, 3, 1, 2]),
    ]
    frame = make.make_tensor_value_info("frame", bytes_, ["n", "h", "w", 3])
    scores = make.make_tensor_value_info("scores", floats, ["n", 3, "h", "w"])
    graph = make.make_graph(nodes, "strongest", [frame], [scores])
    path = tmp_path_factory.mktemp("model") / "strongest.onnx"
    onnx.save(make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=8), path)
    with Segmenter(path, backend="onnxruntime", spec=SPEC) as opened:
        yield opened


def write(root: Path, name: str, seen: np.ndarray, truth: np.ndarray) -> None:
    """A picture that the network labels as `seen`, and its mask."""
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(root / f"JPEGImages/{name}.png"), (200 * np.eye(3)[seen]).astype(np.uint8))
    cv2.imwrite(str(root / f"SegmentationClass/{name}.png"), truth.astype(np.uint8))
    with (root / "ImageSets/Segmentation/val.txt").open("a") as file:
        file.write(f"{name}\n")


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Two pictures of unequal size: 12 pixels in all, 10 of them labelled."""
    write(tmp_path, "a", np.array([[0, 0, 1, 1]]), np.array([[BLUE, BLUE, GREEN, BLUE]]))
    write(tmp_path, "b", np.array([[1, 1], [1, 1], [2, 1], [0, 0]]), np.array([[1, 1], [1, 1], [VOID, VOID], [0, 1]]))
    return open_list(tmp_path, ["val"])


def test_one_matrix_over_the_data_set_at_the_pictures_own_sizes(segmenter: Segmenter, samples: list[Sample]) -> None:
    result = evaluate(segmenter, samples)
    assert result.matrix.tolist() == [[3, 1, 0], [1, 5, 0], [0, 0, 0]]
    assert result.images == 2
    assert result.mean_iou == pytest.approx((3 / 5 + 5 / 7) / 2)  # a mean over pictures would be another
    assert result.mean_accuracy == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert result.absent == ["red"]
    assert result.network_sizes == {(1, 4): 1, (4, 2): 1}


def test_the_means_may_be_over_some_classes(segmenter: Segmenter, samples: list[Sample]) -> None:
    result = evaluate(segmenter, samples, classes=["red", "green"])
    assert result.mean_iou == pytest.approx(5 / 7)
    assert result.mean_accuracy == pytest.approx(5 / 6)
    assert result.absent == ["red"]
    assert result.scores.pixel_accuracy == 0.8  # of all classes still


def test_the_document_is_json_with_the_keys_that_are_promised(segmenter: Segmenter, samples: list[Sample]) -> None:
    document = json.loads(msgspec.json.encode(evaluate(segmenter, samples).document()))
    assert document["pixel_accuracy"] == 0.8
    assert document["mean_iou"] == pytest.approx(23 / 35)
    assert document["mean_accuracy"] == pytest.approx(19 / 24)
    assert document["frequency_weighted_iou"] == pytest.approx(0.4 * 3 / 5 + 0.6 * 5 / 7)
    assert document["per_class_iou"] == {"blue": 0.6, "green": pytest.approx(5 / 7), "red": None}
    assert document["classes"] == ["blue", "green", "red"]
    assert document["absent"] == ["red"]
    assert document["images"] == 2
    assert document["confusion_matrix"] == [[3, 1, 0], [1, 5, 0], [0, 0, 0]]
    assert document["model"] == "strongest"
    assert document["backend"] == "onnxruntime"
    assert document["precision"] == "fp32"
    assert document["network_size"] in ([1, 4], [4, 2])
    assert document["resize"] == "native"
    assert set(document["milliseconds"]) == {"prepare", "infer", "decode", "total"}


def test_more_pictures_than_are_read_ahead_come_in_order_and_all(segmenter: Segmenter, tmp_path: Path) -> None:
    for number in range(11):
        write(tmp_path, f"{number:02}", np.full((1, number + 1), RED), np.full((1, number + 1), RED))
    widths: list[int] = []
    samples = open_list(tmp_path, ["val"])

    def progress(pictures):
        for frame, truth in pictures:
            widths.append(frame.shape[1])
            yield frame, truth

    result = evaluate(segmenter, samples, progress=progress)
    assert widths == list(range(1, 12))
    assert result.matrix[RED, RED] == 66


def test_masks_that_do_not_fit_stop_it_before_the_first_picture(segmenter: Segmenter, tmp_path: Path) -> None:
    write(tmp_path, "good", np.array([[0]]), np.array([[0]]))
    write(tmp_path, "wide", np.array([[0, 0]]), np.array([[0, 0, 0]]))
    write(tmp_path, "foreign", np.array([[0]]), np.array([[3]]))

    def progress(pictures):
        pytest.fail("it began")

    with pytest.raises(DataError, match=r"2 of 3 masks .*wide\.png is 3x1, its picture 2x1; also foreign"):
        evaluate(segmenter, open_list(tmp_path, ["val"]), progress=progress)


def test_a_picture_that_breaks_off_is_named(segmenter: Segmenter, tmp_path: Path) -> None:
    write(tmp_path, "a", np.zeros((40, 40), np.uint8), np.zeros((40, 40)))
    path = tmp_path / "JPEGImages/a.png"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"a\.png"):
        evaluate(segmenter, open_list(tmp_path, ["val"]))


def test_a_class_that_the_model_does_not_have_is_answered_with_those_it_has(
    segmenter: Segmenter, samples: list[Sample]
) -> None:
    with pytest.raises(UsageError, match=r"no class 'cat'.*blue, green, red"):
        evaluate(segmenter, samples, classes=["red", "cat"])


def test_nothing_but_void_is_an_error(segmenter: Segmenter, tmp_path: Path) -> None:
    write(tmp_path, "a", np.array([[0]]), np.array([[VOID]]))
    with pytest.raises(DataError, match="nothing to measure"):
        evaluate(segmenter, open_list(tmp_path, ["val"]))
