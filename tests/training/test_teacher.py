"""What is kept of a teacher, on a picture whose brightness is a plane: every probability on it is known.

The teachers average blocks of pixels (or take every eighth) and give two classes, `dark` at 0 and `bright` at
(v - 96) / 20 where v is the brightness; so the probability of bright is the logistic function of that, anywhere.
"""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fcn_edge.errors import ModelError
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import METADATA_KEY, Deconv, ModelSpec, Output
from fcn_edge.training.teacher import probabilities

SPEC = ModelSpec("brightness", ("dark", "bright"), size=64, stride=8, output=Output(stride=8))
NATIVE = replace(SPEC, stride=32, resize="native")  # a picture of 60x60 gets a border of 4


def write_teacher(path: Path, spec: ModelSpec, block: int, last: str | None = None) -> Path:
    """Scores of `block` x `block` pixels' mean at the output's stride, through the operator `last` in the end."""
    weight = np.zeros((2, 3, block, block), np.float32)
    weight[1] = 1 / 20 / weight[1].size
    stride = spec.output.stride
    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight", "bias"], ["scores"], strides=[stride, stride]),
    ]
    shape = ["n", 2, "h", "w"]
    if last == "ArgMax":
        nodes.append(helper.make_node(last, ["scores"], ["given"], axis=1, keepdims=0))
        shape.remove(2)
    elif last:
        nodes.append(helper.make_node(last, ["scores"], ["given"], axis=1))
    name = "given" if last else "scores"
    kind = TensorProto.INT64 if last == "ArgMax" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "teacher",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["n", "height", "width", 3])],
        [helper.make_tensor_value_info(name, kind, shape)],
        [
            numpy_helper.from_array(weight, "weight"),
            numpy_helper.from_array(np.array([0, -96 / 20], np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return path


def plane(height: int, width: int) -> np.ndarray:
    """Brightness x + 2y."""
    return np.arange(width)[None] + 2 * np.arange(height)[:, None]


def ask(model: Path, folder: Path, size: tuple[int, int]) -> tuple[np.ndarray, Path]:
    picture = folder / "picture.png"
    cv2.imwrite(str(picture), np.repeat(plane(*size)[:, :, None], 3, 2).astype(np.uint8))
    with Segmenter(str(model), backend="onnxruntime") as teacher:
        place = probabilities(teacher, [picture], folder, lambda items, _: items)[picture]
    return np.load(place).astype(np.float32), place


@pytest.mark.parametrize(
    ("spec", "block", "last", "size"),
    [
        (SPEC, 8, None, (64, 64)),
        (replace(SPEC, size=65, sides="k*stride+1", output=Output(stride=8, grid="align_corners")), 1, None, (65, 65)),
        (replace(SPEC, output=Output(stride=8, grid=Deconv(8, 4))), 8, None, (64, 64)),
        (replace(SPEC, output=Output(stride=1)), 1, None, (64, 64)),
        (replace(SPEC, output=Output(stride=1)), 1, "Softmax", (64, 64)),
        (NATIVE, 8, None, (60, 60)),
        (replace(NATIVE, output=Output(stride=8, grid=Deconv(8, 4))), 8, None, (60, 60)),
        (replace(SPEC, resize="letterbox", output=Output(stride=8, grid=Deconv(8, 4))), 8, None, (48, 64)),
        (replace(SPEC, resize="letterbox", sides="any"), 8, None, (44, 64)),
    ],
    ids=["half_pixel", "align_corners", "deconv", "whole", "softmaxed", "native", "native-deconv", "letterbox", "any"],
)
def test_what_is_kept_lies_where_the_picture_does(tmp_path, spec, block, last, size):
    model = write_teacher(tmp_path / "teacher.onnx", spec, block, last)
    kept, _ = ask(model, tmp_path, size)
    shape = tuple(-(-side // 8) for side in size)
    assert kept.shape == (2, *shape)
    y, x = ((np.arange(count) + 0.5) * side / count - 0.5 for count, side in zip(shape, size, strict=True))
    expected = 1 / (1 + np.exp(-(x[None] + 2 * y[:, None] - 96) / 20))
    inner = np.s_[1:-2, 2:-2]  # a transposed convolution fades at the border, and blocks reach over it
    np.testing.assert_allclose(kept[1][inner], expected[inner], atol=3e-3)
    np.testing.assert_allclose(kept.sum(0), 1, atol=2e-3)


def test_a_teacher_that_gives_labels_is_refused(tmp_path):
    spec = replace(SPEC, output=Output("labels", 1))
    with pytest.raises(ModelError, match="gives labels"):
        ask(write_teacher(tmp_path / "teacher.onnx", spec, 1, "ArgMax"), tmp_path, (64, 64))


def test_the_same_file_otherwise_described_never_finds_what_was_kept(tmp_path):
    places = set()
    for resize in ("fit", "stretch"):
        model = write_teacher(tmp_path / "teacher.onnx", SPEC, 8)
        with Segmenter(str(model), backend="onnxruntime", spec=replace(SPEC, resize=resize)) as teacher:
            picture = tmp_path / "picture.png"
            cv2.imwrite(str(picture), np.repeat(plane(64, 64)[:, :, None], 3, 2).astype(np.uint8))
            places |= set(probabilities(teacher, [picture], tmp_path, lambda items, _: items).values())
    assert len(places) == 2
