"""How far scores look, against figures that others published and against the network's own gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import SPEC, write_onnx

from fcn_edge.errors import ModelError
from fcn_edge.runtime.files import bundled, int8_form, read_spec
from fcn_edge.spec import Output
from fcn_edge.tiling.field import Field, read_field

onnx = pytest.importorskip("onnx")


def write_graph(path: Path, nodes: list, weights: dict[str, np.ndarray]) -> Path:
    """An ONNX file of planes in, `scores` out."""
    from onnx import TensorProto, helper, numpy_helper

    planes = helper.make_tensor_value_info("planes", TensorProto.FLOAT, ["n", 3, "h", "w"])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", None, None, None])
    stored = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "graph", [planes], [scores], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def node(operator: str, inputs: str, output: str, **attributes: object):
    return onnx.helper.make_node(operator, inputs.split(), [output], **attributes)


def spec_of(stride: int):
    return replace(SPEC, input=replace(SPEC.input, layout="NCHW"), output=Output(stride=stride))


KERNEL = np.ones((3, 3, 3, 3), np.float32)


def test_a_convolution_sees_its_kernel(tmp_path):
    nodes = [node("Conv", "planes weight", "scores", kernel_shape=[3, 3], pads=[1, 1, 1, 1], strides=[2, 2])]
    path = write_graph(tmp_path / "a.onnx", nodes, {"weight": KERNEL})
    assert read_field(path, spec_of(2)) == Field(2, -1, 1)


def test_a_dilated_one_sees_farther_and_rows_and_columns_may_differ(tmp_path):
    nodes = [node("Conv", "planes weight", "scores", pads=[2, 1, 2, 1], dilations=[2, 1])]
    path = write_graph(tmp_path / "a.onnx", nodes, {"weight": KERNEL})
    assert read_field(path, spec_of(1)) == Field(1, -2, 2)


def test_pools_pads_and_crops_move_what_is_seen(tmp_path):
    nodes = [
        node("Pad", "planes pads", "padded"),
        node("MaxPool", "padded", "pooled", kernel_shape=[2, 2], strides=[2, 2]),
        node("Slice", "pooled starts ends axes", "scores"),
    ]
    numbers = {"pads": [0, 0, 10, 10, 0, 0, 10, 10], "starts": [3, 3], "ends": [999, 999], "axes": [2, 3]}
    path = write_graph(tmp_path / "a.onnx", nodes, {name: np.array(value) for name, value in numbers.items()})
    assert read_field(path, spec_of(2)) == Field(2, -10 + 6, -10 + 6 + 1)


def test_a_mean_over_the_map_is_told_and_adds_nothing_else(tmp_path):
    nodes = [
        node("Conv", "planes weight", "features", pads=[1, 1, 1, 1]),
        node("ReduceMean", "features", "mean", axes=[2, 3]),
        node("Conv", "mean point", "context"),
        node("Add", "features context", "scores"),
    ]
    weights = {"weight": KERNEL, "point": KERNEL[:, :, :1, :1].copy()}
    path = write_graph(tmp_path / "a.onnx", nodes, weights)
    assert read_field(path, spec_of(1)) == Field(1, -1, 1, pooled=True)


def test_an_operator_whose_reach_is_not_known_is_named_with_the_way_out(tmp_path):
    path = write_graph(tmp_path / "a.onnx", [node("DepthToSpace", "planes", "scores", blocksize=1)], {})
    with pytest.raises(ModelError, match=r"past DepthToSpace scores.*--overlap PIXELS"):
        read_field(path, spec_of(1))


def test_a_spec_with_another_stride_is_refused(tmp_path):
    path = write_onnx(tmp_path / "a.onnx", replace(SPEC, output=Output(stride=4)))
    with pytest.raises(ModelError, match=r"1 pixels apart, its spec says 4"):
        read_field(path, replace(SPEC, output=Output(stride=4)))


@pytest.mark.parametrize("size", [((33, 33), (65, 65)), ((32, 32), (64, 64))], ids=["align_corners", "half_pixel"])
def test_a_resize_sees_both_neighbours_as_opencv_interpolates(tmp_path, size):
    """The bound is held against an impulse: each place that an input reaches has it in its interval."""
    small, large = size
    way = "align_corners" if small[0] % 2 else "half_pixel"
    nodes = [
        node("Conv", "planes weight", "fine", strides=[1, 1]),
        node("MaxPool", "planes", "coarse", kernel_shape=[1, 1], strides=[2, 2]),
        node("Shape", "fine", "sizes"),
        onnx.helper.make_node(
            "Resize", ["coarse", "", "", "sizes"], ["up"], mode="linear", coordinate_transformation_mode=way
        ),
        node("Add", "fine up", "scores"),
    ]
    path = write_graph(tmp_path / "a.onnx", nodes, {"weight": KERNEL[:, :, :1, :1].copy()})
    field = read_field(path, spec_of(1))
    for column in range(8, 12):
        impulse = np.zeros(small, np.float32)
        impulse[:, column] = 1
        if way == "half_pixel":
            spread = cv2.resize(impulse, large[::-1], interpolation=cv2.INTER_LINEAR)[0]
        else:
            spread = np.interp(np.linspace(0, small[1] - 1, large[1]), np.arange(small[1]), impulse[0])
        for place in np.flatnonzero(spread > 1e-6):
            assert place + field.first <= 2 * column <= place + field.last
    assert field.pixels <= 4


class TestBundled:
    def test_the_int8_form_sees_what_the_float_one_does(self):
        path = bundled()["fcn8s-lite"]
        quantised = int8_form(path)
        assert quantised is not None
        field = read_field(path, read_spec(path))
        assert field == read_field(quantised, read_spec(quantised))
        assert field.pooled


def test_the_papers_networks_see_what_its_table_1_says(tmp_path):
    """355 pixels for AlexNet and 404 for VGG16: Long et al. 2015."""
    pytest.importorskip("torch")
    from forms import SMALL_SIZES, narrow

    from fcn_edge.models.checkpoint import untrained
    from fcn_edge.onnx_export import export

    photo = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    for variant, pixels in (("fcn-alexnet", 355), ("fcn32s", 404)):
        with narrow():
            network, spec = untrained(variant)
        exported = export(network, spec, tmp_path / f"{variant}.onnx", [photo], SMALL_SIZES[:1])
        field = read_field(exported.path, exported.spec)
        assert (field.pixels, field.pooled) == (pixels, False)
