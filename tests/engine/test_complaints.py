"""What TensorRT-RTX's own parser refuses, as fcn-edge tells it: one line with node, operator and mend."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fcn_edge.engine.builder import build
from fcn_edge.engine.complaints import clean, failed, refused
from fcn_edge.engine.profiles import Options, Profile
from fcn_edge.errors import BackendError, ModelError
from fcn_edge.spec import Input, ModelSpec

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402

FLOAT, HALF, UINT8, INT8 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8
PLANES = ("frame", FLOAT, ["n", 3, "h", "w"])
SMALL = ("frame", FLOAT, [1, 3, 8, 8])
PIXELS = ("frame", UINT8, ["n", "h", "w", 3])


def tensor(name: str, values: Any) -> Any:
    return numpy_helper.from_array(np.asarray(values), name)


def node(operator: str, inputs: str, output: str = "scores", name: str = "it", **attributes: Any) -> Any:
    return helper.make_node(operator, inputs.split(), output.split(), name, **attributes)


WEIGHT = tensor("w", np.ones((4, 3, 3, 3), np.float32))
SCALE, ZERO = tensor("s", np.float32(0.1)), tensor("z", np.int8(0))
TO_FLOAT = node("Cast", "t", name="to_float", to=FLOAT)
INT32_BIAS = [
    node("QuantizeLinear", "frame s z", "q", "q"),
    node("DequantizeLinear", "q s z", "d", "dq"),
    node("DequantizeLinear", "wq s z", "wd", "weight_dq"),
    node("DequantizeLinear", "bq s bz", "bd", "bias_dq"),
    node("Conv", "d wd bd"),
]
QUANTISED = [
    SCALE,
    ZERO,
    tensor("wq", np.ones((4, 3, 3, 3), np.int8)),
    tensor("bq", np.ones(4, np.int32)),
    tensor("bz", np.int32(0)),
]
HALVED = tensor("scales", np.array([1, 1, 0.5, 0.5], np.float32))

CASES = {  # name: input, nodes, weights, what the line says of the node, what mends it
    "uint8 into Transpose": (
        PIXELS,
        [node("Transpose", "frame", "t", "turn", perm=[0, 3, 1, 2]), TO_FLOAT],
        [],
        "refuses Transpose turn: first input has type UInt8 but",
        "Put the Cast to float first",
    ),
    "uint8 into Slice": (
        ("frame", UINT8, [1, 8, 8, 3]),
        [node("Slice", "frame a b", "t", "cut"), TO_FLOAT],
        [tensor("a", [0]), tensor("b", [1])],
        "refuses Slice cut: Found unsupported input type of UINT8",
        "Put the Cast to float first",
    ),
    "int32 bias": (
        PLANES,
        INT32_BIAS,
        QUANTISED,
        "refuses DequantizeLinear bias_dq: input has type Int32",
        "QuantizeBias=False",
    ),
    "zero point": (
        PLANES,
        [node("QuantizeLinear", "frame s u", "q", "quantise"), node("DequantizeLinear", "q s u")],
        [SCALE, tensor("u", np.uint8(128))],
        "refuses QuantizeLinear quantise: Non-zero zero point",
        "Quantise symmetrically",
    ),
    "Float and Half": (
        PIXELS,
        [
            node("Cast", "frame", "f", "f", to=FLOAT),
            node("Cast", "frame", "h", "h", to=HALF),
            node("Add", "f h", name="sum"),
        ],
        [],
        "refuses Add sum: ElementWiseOperation SUM must have same input types",
        "cast one of them; fcn-edge export --precision fp16",
    ),
    "Half frame, Float weights": (
        ("frame", HALF, ["n", 3, "h", "w"]),
        [node("Conv", "frame w", name="first")],
        [WEIGHT],
        "refuses Conv first: IConvolutionLayer",
        "cast one of them",
    ),
    "a pool's indices": (
        PLANES,
        [node("MaxPool", "frame", "scores i", "pool", kernel_shape=[2, 2]), node("Identity", "i", "indices")],
        [],
        "refuses MaxPool pool: This version of TensorRT doesn't support",
        "upsample",
    ),
    "MaxUnpool": (
        SMALL,
        [
            node("Cast", "frame", "i", "i", to=TensorProto.INT64),
            node("MaxUnpool", "frame i", name="unpool", kernel_shape=[2, 2]),
        ],
        [],
        "refuses MaxUnpool unpool: it is not supported",
        "upsample",
    ),
    "antialias": (
        SMALL,
        [helper.make_node("Resize", ["frame", "", "scales"], ["scores"], "down", mode="linear", antialias=1)],
        [HALVED],
        "refuses Resize down: Antialiasing is not supported currently",
        "antialias=False",
    ),
    "crop and resize": (
        SMALL,
        [
            helper.make_node(
                "Resize",
                ["frame", "roi", "scales"],
                ["scores"],
                "crop",
                mode="linear",
                coordinate_transformation_mode="tf_crop_and_resize",
            )
        ],
        [HALVED, tensor("roi", np.zeros(8, np.float32))],
        "refuses Resize crop: TensorRT only supports half_pixel",
        "Take half_pixel",
    ),
    "QLinearConv": (
        ("frame", INT8, [1, 3, 8, 8]),
        [node("QLinearConv", "frame s z wq s z s z", "o", "qconv"), node("DequantizeLinear", "o s z")],
        [SCALE, ZERO, QUANTISED[2]],
        "refuses QLinearConv qconv: it is not supported",
        "DequantizeLinear (QDQ)",
    ),
    "an operator that nobody has": (
        SMALL,
        [node("Wobble", "frame", name="wobble")],
        [],
        "refuses Wobble wobble: Plugin not found",
        "operators of ONNX's own",
    ),
    "stride and dilation": (
        SMALL,
        [node("ConvTranspose", "frame w", name="up", strides=[2, 2], dilations=[2, 2])],
        [tensor("w", np.ones((3, 4, 3, 3), np.float32))],
        "cannot build it: Strided & Dilated Deconv are currently not supported",
        "a stride or a dilation, not both",
    ),
    "a pool that rounds up into its padding": (
        PLANES,
        [
            node("MaxPool", "frame", "t", "ceil", kernel_shape=[2, 2], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1),
            node("Relu", "t"),
        ],
        [],
        "pool ceil rounds up with kernel 2, stride 2 and padding 1",
        "without ceil_mode",
    ),
}


def attempt(folder: Path, case: str) -> str:
    """The line that building the case's file ends in."""
    frame, nodes, weights, *_ = CASES[case]
    spec = ModelSpec("bad", ("a", "b"), input=Input("NHWC" if frame[2][3] == 3 else "NCHW"), size=8, stride=8)
    outputs = [helper.make_tensor_value_info("scores", FLOAT, None)]
    graph = helper.make_graph(nodes, "bad", [helper.make_tensor_value_info(*frame)], outputs, weights)
    opset = 18 if case == "antialias" else 17
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    path = folder / "bad.onnx"
    onnx.save(model, path)
    shapes = [Profile((8, 8), (8, 8), (8, 8))]
    with pytest.raises((ModelError, BackendError)) as caught:
        build(path, spec, "tensorrt-rtx", shapes, folder, Options(targets=("8.9",)))
    return str(caught.value)


@pytest.mark.parametrize("case", CASES)
def test_a_refusal_is_one_line_that_names_the_node_and_the_mend(case, tmp_path):
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX has no wheel for this platform")
    line = attempt(tmp_path, case)
    said, mend = CASES[case][3:]
    assert line.startswith(f"{tmp_path}/bad.onnx: ")
    assert said in line
    assert mend in line
    assert "\n" not in line
    assert len(line) < 500
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]


def test_mod_which_tensorrt_8_alone_refuses_is_explained():
    """A stand-in for 8.6, which nothing here runs; its words are those of 8.5.2 in NVIDIA/TensorRT#2968."""
    eight: Any = SimpleNamespace(title="TensorRT")
    words = "Error Code 2: Internal Error (Assertion y->type() == signature.operandType(1) failed.)"
    line = str(refused(Path("m.onnx"), eight, [("number 297", "", words)]))
    assert line == (
        "m.onnx: TensorRT refuses number 297: Assertion y->type() == signature.operandType(1) failed. "
        "Give both operands of Mod one type, int32 on TensorRT 8, or pad frames before the network."
    )


def test_a_refusal_of_several_nodes_counts_the_others():
    eight: Any = SimpleNamespace(title="TensorRT")
    line = str(refused(Path("m.onnx"), eight, [("a", "Det", "false"), ("a", "Det", "false"), ("b", "Det", "false")]))
    assert line == "m.onnx: TensorRT refuses Det a: it is not supported. (1 more like it)"


def test_a_builder_that_says_nothing_is_told_so():
    trt: Any = SimpleNamespace(title="TensorRT")
    assert "did not say why" in str(failed(Path("m.onnx"), trt, [(2, "only a warning")]))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("false", "it is not supported"),
        ("Assertion failed: status.is_success(): Found it", "Found it"),
        ('(a == 0) && "One and " "two."', "One and two"),
        ("x: Error Code 4: API Usage Error (n: bad type. In checkType at /_src/a.cpp:456)", "n: bad type"),
        ("", "it is not supported"),
        ("y" * 300, "y" * 197 + "..."),
    ],
)
def test_of_tensorrts_words_the_telling_part_is_kept(words, said):
    assert clean(words) == said
