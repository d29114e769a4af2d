"""A network whose labels are known beforehand, through the real Segmenter, on files written for it.

It names the strongest colour of a pixel: blue, green or red.
"""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import cv2
import msgspec
import numpy as np
import pytest

from fcn_edge.data import Sample, open_list, pictures_seen
from fcn_edge.errors import DataError, UsageError
from fcn_edge.evaluation import evaluate
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import ModelSpec

BLUE, GREEN, RED, VOID = 0, 1, 2, 255
SPEC = ModelSpec(name="strongest", classes=("blue", "green", "red"), stride=1, sides="any", resize="native")


@pytest.fixture(scope="module")
def strongest(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
    return path


@pytest.fixture(scope="module")
def segmenter(strongest: Path):
    with Segmenter(strongest, backend="onnxruntime", spec=SPEC) as opened:
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


def test_per_image_means_weigh_each_picture_the_same_over_the_classes_of_its_truth(
    segmenter: Segmenter, samples: list[Sample]
) -> None:
    result = evaluate(segmenter, samples)
    assert result.image_pixel_accuracies == pytest.approx((3 / 4, 5 / 6))
    assert result.per_image_pixel_accuracy == pytest.approx((3 / 4 + 5 / 6) / 2)
    assert result.per_image_mean_iou == pytest.approx(((2 / 3 + 1 / 2) / 2 + (1 / 2 + 4 / 5) / 2) / 2)
    of_blue = evaluate(segmenter, samples, classes=["blue"])
    assert of_blue.per_image_mean_iou == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_picture_of_void_alone_is_in_no_per_image_mean(segmenter: Segmenter, tmp_path: Path) -> None:
    write(tmp_path, "a", np.array([[BLUE, RED]]), np.array([[BLUE, BLUE]]))
    write(tmp_path, "b", np.array([[BLUE]]), np.array([[VOID]]))
    result = evaluate(segmenter, open_list(tmp_path, ["val"]))
    assert (result.per_image_pixel_accuracy, result.per_image_mean_iou, result.images) == (0.5, 0.5, 2)


def test_the_boundary_f_is_over_the_data_set_and_the_chosen_classes(segmenter: Segmenter, tmp_path: Path) -> None:
    truth = np.zeros((40, 40), np.uint8)
    truth[10:20, 10:20] = GREEN
    write(tmp_path, "met", np.roll(truth, 3, 1), truth)
    write(tmp_path, "missed", np.zeros_like(truth), truth)
    samples = open_list(tmp_path, ["val"])
    result = evaluate(segmenter, samples, classes=["green"])
    assert result.boundary_scores.per_class_recall[GREEN] == 0.5
    assert result.boundary_f == pytest.approx(2 * 0.5 / 1.5)
    assert evaluate(segmenter, samples, classes=["green"], tolerances=[0]).boundary_f < 0.5
    assert evaluate(segmenter, samples, classes=["green"], tolerances=[0]).tolerance == 0


def test_masks_of_other_classes_order_are_compared_by_name(segmenter: Segmenter, samples: list[Sample]) -> None:
    result = evaluate(segmenter, samples, truth_classes=["green", "blue"])
    assert result.matrix.tolist() == [[1, 5, 0], [3, 1, 0], [0, 0, 0]]
    assert result.unknown == ("red",)
    with pytest.raises(DataError, match=r"2 of 2 .*holds index 1, 1 classes end at 0"):
        evaluate(segmenter, samples, truth_classes=["green"])


def test_data_of_a_class_that_the_model_lacks_are_refused(segmenter: Segmenter, samples: list[Sample]) -> None:
    names = ["blue", "cyan", "magenta"]
    with pytest.raises(
        DataError, match=r"strongest has no class cyan, magenta, which .* 3 classes are blue, green, red"
    ):
        evaluate(segmenter, samples, truth_classes=names)


def test_pictures_that_the_model_was_trained_on_are_never_measured(strongest: Path, samples: list[Sample]) -> None:
    def trained_on(*pictures: Sample) -> Segmenter:
        seen = pictures_seen(sample.image for sample in pictures)
        spec = replace(SPEC, provenance={"pictures_seen": seen})
        return Segmenter(strongest, backend="onnxruntime", spec=spec)

    with trained_on(samples[0]) as opened:
        result = evaluate(opened, samples)
    assert (result.images, result.left_out) == (1, 1)
    assert result.matrix.tolist() == [[1, 0, 0], [1, 4, 0], [0, 0, 0]]
    assert result.document()["left_out"] == 1
    with trained_on(*samples) as opened, pytest.raises(DataError, match="trained or calibrated on all 2 pictures"):
        evaluate(opened, samples)


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
    assert document["per_class_boundary_f_score"]["red"] is None
    assert set(document["per_class_boundary_f_score"]) == {"blue", "green", "red"}
    assert 0 < document["boundary_f_score"] <= 1
    assert document["boundary_tolerance"] == 5
    per_image = {"pixel_accuracy": (3 / 4 + 5 / 6) / 2, "mean_iou": ((2 / 3 + 1 / 2) / 2 + (1 / 2 + 4 / 5) / 2) / 2}
    assert document["per_image"] == pytest.approx(per_image)
    assert document["left_out"] == 0
    assert document["unknown_to_the_data"] == []
    assert document["model"] == "strongest"
    assert document["backend"] == "onnxruntime"
    assert document["precision"] == "fp32"
    assert document["network_size"] in ([1, 4], [4, 2])
    assert document["resize"] == "native"
    assert set(document["milliseconds"]) == {"prepare", "infer", "decode", "total"}


def test_the_page_about_data_names_every_key_of_the_document(segmenter: Segmenter, samples: list[Sample]) -> None:
    page = (Path(__file__).parent.parent / "docs/data.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page[page.index("`--json` prints") :], re.MULTILINE)
    assert set(re.findall(r"`(\w+)[^`]*`", " ".join(rows))) == set(evaluate(segmenter, samples).document())


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


def test_masks_that_do_not_fit_stop_it_before_the_first_picture(
    segmenter: Segmenter, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path, "good", np.array([[0]]), np.array([[0]]))
    write(tmp_path, "wide", np.array([[0, 0]]), np.array([[0, 0, 0]]))
    write(tmp_path, "foreign", np.array([[0]]), np.array([[3]]))

    def progress(pictures):
        pytest.fail("it began")

    with pytest.raises(DataError, match=r"2 of 3 masks .*wide\.png is 3x1, its picture 2x1; all are named above"):
        evaluate(segmenter, open_list(tmp_path, ["val"]), progress=progress)
    named = [record.getMessage() for record in caplog.records]
    assert len(named) == 2
    assert named[0].endswith("wide.png is 3x1, its picture 2x1")
    assert named[1].endswith("foreign.png holds index 3, 3 classes end at 2")


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
