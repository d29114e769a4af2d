"""Model files from elsewhere: what exporters do differently is taken, and a spec that is wrong is told in one line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tiny import BIAS, WEIGHT, random_frames, scores_of

from fcn_edge.errors import ModelError, SpecError
from fcn_edge.runtime import open_backend
from fcn_edge.segmenter import Segmenter
from fcn_edge.spec import Input, ModelSpec, Output, from_toml

BACKENDS = ("onnxruntime", "openvino")
SIDE = 12
CLASSES = ("dark", "blue", "green", "red")
SPEC = ModelSpec(
    "theirs",
    CLASSES,
    input=Input("NCHW", "float32", "BGR"),
    size=SIDE,
    sides="any",
    resize="stretch",
)
FRAMES = random_frames(1, SIDE, SIDE, 3)
PLANES = np.ascontiguousarray(np.moveaxis(FRAMES, 3, 1).astype(np.float32))
LABELS = scores_of(FRAMES).argmax(1)


def write(
    path: Path, ending: Sequence[onnx.NodeProto] = (), outputs: Sequence[str] = ("scores",), inputs: int = 1
) -> Path:
    """A 1x1 convolution on float planes, and what `ending` makes of its output "scores"; no metadata."""
    nodes = [helper.make_node("Conv", ["image", "weight", "bias"], ["scores"]), *ending]
    image = [1, 3, SIDE, SIDE]
    graph = helper.make_graph(
        nodes,
        "theirs",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, image) for name in ("image", "size")[:inputs]],
        [onnx.ValueInfoProto(name=name) for name in outputs],
        [numpy_helper.from_array(WEIGHT.reshape(4, 3, 1, 1), "weight"), numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)
    return path


def infer(path: Path, spec: ModelSpec, backend: str) -> np.ndarray:
    opened, _ = open_backend(path, spec, backend, "fp32")
    try:
        return opened.infer(PLANES)
    finally:
        opened.close()


ARGMAX = [helper.make_node("ArgMax", ["scores"], ["labels"], axis=1, keepdims=0)]
UNBATCHED = [
    helper.make_node("Constant", [], ["axis"], value_ints=[0]),
    helper.make_node("Squeeze", ["scores", "axis"], ["out"]),
]
WITH_SIZE = [
    helper.make_node("ReduceMean", ["size"], ["mean"], keepdims=1),
    helper.make_node("Add", ["scores", "mean"], ["out"]),
]
AUXILIARY = [helper.make_node("Neg", ["scores"], ["aux"])]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "ending",
    [
        [],
        [helper.make_node("Transpose", ["scores"], ["out"], perm=[0, 2, 3, 1])],
        UNBATCHED,
        [helper.make_node("Softmax", ["scores"], ["out"], axis=1)],
    ],
    ids=["classes first", "classes last", "no batch", "probabilities"],
)
def test_scores_are_taken_as_exporters_leave_them(ending: list, backend: str, tmp_path: Path) -> None:
    path = write(tmp_path / "theirs.onnx", ending, ["out"] if ending else ["scores"])
    got = infer(path, SPEC, backend)
    assert (got.shape, got.dtype) == ((1, 4, SIDE, SIDE), np.float32)
    np.testing.assert_array_equal(got.argmax(1), LABELS)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kept", [0, 1])
def test_labels_are_taken_with_or_without_an_axis_of_one(kept: int, backend: str, tmp_path: Path) -> None:
    ending = [helper.make_node("ArgMax", ["scores"], ["labels"], axis=1, keepdims=kept)]
    path = write(tmp_path / "theirs.onnx", ending, ["labels"])
    got = infer(path, replace(SPEC, output=Output("labels")), backend)
    np.testing.assert_array_equal(got, LABELS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_of_several_outputs_the_first_is_taken_or_the_one_that_the_spec_names(backend: str, tmp_path: Path) -> None:
    path = write(tmp_path / "theirs.onnx", AUXILIARY, ["aux", "scores"])
    np.testing.assert_array_equal(infer(path, SPEC, backend), -scores_of(FRAMES))
    named = replace(SPEC, output=Output(name="scores"))
    np.testing.assert_array_equal(infer(path, named, backend), scores_of(FRAMES))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("spec", "ending", "outputs", "inputs", "said"),
    [
        (replace(SPEC, classes=CLASSES[:3], palette=()), [], ["scores"], 1, "promises scores (N, 3, h, w)"),
        (replace(SPEC, input=Input("NCHW", "uint8")), [], ["scores"], 1, "takes float32, its spec says uint8"),
        (replace(SPEC, output=Output(name="out")), AUXILIARY, ["aux", "scores"], 1, "no output 'out'"),
        (replace(SPEC, output=Output("labels")), [], ["scores"], 1, "promises labels (N, H, W)"),
        (SPEC, ARGMAX, ["labels"], 1, "promises scores (N, 4, h, w)"),
        (
            replace(SPEC, classes=CLASSES[:3], palette=(), output=Output("labels")),
            ARGMAX,
            ["labels"],
            1,
            "gives the label 3, its spec names 3 classes",
        ),
        (SPEC, WITH_SIZE, ["out"], 2, "has 2 inputs (image, size)"),
    ],
    ids=["classes", "type", "output", "kind", "scores", "labels", "inputs"],
)
def test_a_spec_that_does_not_fit_the_file_is_one_line(
    spec: ModelSpec, ending: list, outputs: list[str], inputs: int, said: str, backend: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "theirs.onnx", ending, outputs, inputs)
    with pytest.raises(ModelError) as caught:
        infer(path, spec, backend)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


DESCRIPTION = """
name = "theirs"
classes = ["dark", "blue", "green", "red"]
size = 12
sides = "any"
resize = "stretch"

[input]
layout = "NCHW"
dtype = "float32"
color = "BGR"
"""


def test_a_foreign_file_segments_a_frame_by_its_description(tmp_path: Path) -> None:
    (tmp_path / "theirs.toml").write_text(DESCRIPTION)
    assert from_toml(tmp_path / "theirs.toml") == SPEC
    path = write(tmp_path / "theirs.onnx")
    with Segmenter(path, precision="fp32", spec=tmp_path / "theirs.toml") as segmenter:
        np.testing.assert_array_equal(segmenter(FRAMES[0]).labels, LABELS[0])


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ('name = "theirs"', "", "required field `name`"),
        ("size = 12", "sise = 12", "no field 'sise'"),
        ("layout", "layuot", "no field 'input.layuot'"),
        ('"NCHW"', '"CHW"', "input.layout"),
        ("size = 12", 'size = "12"', "size"),
        ("size = 12", "size = ", "not a model spec"),
        ("[input]", "input", "not a model spec"),
        ('classes = ["dark", "blue", "green", "red"]', "classes = []", "0 classes"),
    ],
)
def test_a_description_that_is_wrong_is_one_line(before: str, after: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "theirs.toml"
    path.write_text(DESCRIPTION.replace(before, after))
    with pytest.raises(SpecError) as caught:
        from_toml(path)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_example_of_the_page_about_specs_is_a_description(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs/spec.md").read_text()
    (tmp_path / "page.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    spec = from_toml(tmp_path / "page.toml")
    assert (spec.size, len(spec.classes), spec.input.layout, spec.resize) == (513, 21, "NCHW", "letterbox")
