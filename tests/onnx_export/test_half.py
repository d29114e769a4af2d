"""Float16 files: what stays in float32, what rounding costs, and what is refused."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import rtx
import torch
from forms import SMALL_SIZES
from onnx import TensorProto

from fcn_edge import Segmenter
from fcn_edge.data import read_image
from fcn_edge.errors import FcnEdgeError
from fcn_edge.models.checkpoint import describe, load
from fcn_edge.models.lite import FCNLite
from fcn_edge.onnx_export import export
from fcn_edge.onnx_export.half import halve, rounding
from fcn_edge.resources import PACKAGE, demo_photos
from fcn_edge.spec import Output

BUNDLED = PACKAGE / "weights" / "fcn8s-lite.safetensors"


@pytest.fixture(scope="module")
def photos() -> list[np.ndarray]:
    return [read_image(path) for path in demo_photos()]


@pytest.fixture(scope="module", params=["scores", "labels"])
def bundled(request, tmp_path_factory, photos):
    network, spec = load(BUNDLED)
    if request.param == "labels":
        spec = replace(spec, output=Output("labels", 1, spec.output.grid))
    path = tmp_path_factory.mktemp("half") / "lite.fp16.onnx"
    return export(network, replace(spec, precision="fp16"), path, photos, SMALL_SIZES[:2])


class TestBundled:
    def test_it_says_that_it_is_float16_and_what_of_it_is_not(self, bundled):
        parts = bundled.spec.provenance["float32"]
        assert bundled.spec.precision == "fp16"
        assert list(parts) == ["normalisation", "mean over the map", "sums and upsampling of scores"]
        nodes = {node.name: node.op_type for node in onnx.load(bundled.path).graph.node}
        kinds = [{nodes[name] for name in names} for names in parts.values()]
        assert kinds[:2] == [{"Cast", "Transpose", "Sub", "Div"}, {"ReduceMean"}]
        assert {"Resize", "Add"} <= kinds[2] <= {"Resize", "Add", "ArgMax", "Cast"}

    def test_half_the_bytes_are_gone(self, bundled):
        assert bundled.megabytes < 0.55 * BUNDLED.with_suffix(".onnx").stat().st_size / 1e6

    @pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
    def test_a_cpu_runs_it_in_what_it_computes_in_and_says_so(self, bundled, backend, photos):
        with (
            Segmenter(bundled.path, backend, "fp32", size=257) as half,
            Segmenter("fcn8s-lite", backend, "fp32", size=257) as full,
        ):
            assert half.backend.precision == "fp32"
            for photo in photos:
                small = photo[::2, ::2].copy()
                same = half(small).labels == full(small).labels
                # with labels inside, they are scaled from the network's size by the nearest pixel
                assert same.mean() > (0.995 if bundled.spec.output.kind == "scores" else 0.98)

    def test_tensorrt_rtx_builds_it_and_reads_bytes(self, bundled):
        assert rtx.build(bundled.path, (1, 33, 33, 3), (1, 289, 513, 3), (1, 513, 513, 3)) > 1e6


class Scaled(FCNLite):
    """Features scaled up, within float32's range and beyond float16's, and scores down again."""

    def __init__(self) -> None:
        super().__init__(21, skips=())

    def head_scores(self, features):
        return super().head_scores(tuple(feature * 6e4 for feature in features)) / 6e4


def test_a_value_beyond_float16s_range_is_told_and_no_file_is_left(tmp_path, photos):
    torch.manual_seed(0)
    network = Scaled()
    spec = replace(describe(network, "fcn32s-lite"), precision="fp16")
    with pytest.raises(FcnEdgeError, match=r"at 33x65 the fp16 file gives .* a value leaves float16's range"):
        export(network, spec, tmp_path / "big.onnx", photos, SMALL_SIZES[:1])
    assert not list(tmp_path.iterdir())


def graph(text: str) -> onnx.ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : 17]> {text}')
    for node in model.graph.node:
        node.name = node.output[0]
    return model


TWO_SUMS = """g (float[N, 2, h, w] x) => (float[N, 2, h, w] scores)
    <float[2, 2, 1, 1] a = {1, 2, 3, 4}, float[1] c = {0.1}, float[1] d = {0.2}> {
    conv = Conv(x, a)
    relu = Relu(conv)
    last = Conv(relu, a)
    sum = Add(last, c)
    size = Shape(last)
    flat = Reshape(sum, size)
    scores = Add(flat, d)
}"""


class TestHalve:
    def test_nothing_is_cast_between_two_nodes_that_stay_in_float32(self):
        model = graph(TWO_SUMS)
        parts = halve(model, "mine")
        assert list(parts) == ["sums and upsampling of scores"]
        onnx.checker.check_model(model, full_check=True)
        casts = [node for node in model.graph.node if node.op_type == "Cast"]
        assert [(list(node.input), node.attribute[0].i) for node in casts] == [
            (["x"], TensorProto.FLOAT16),
            (["last"], TensorProto.FLOAT),
        ]

    def test_a_constant_that_stays_in_float32_is_not_rounded(self):
        model = graph(TWO_SUMS)
        halve(model, "mine")
        types = Counter(weight.data_type for weight in model.graph.initializer)
        assert types == {TensorProto.FLOAT: 2, TensorProto.FLOAT16: 1}

    def test_a_weight_beyond_float16s_range_is_named_with_its_size(self):
        model = graph(
            "g (float[N, 1, h, w] x) => (float[N, 1, h, w] y) <float[1, 1, 1, 1] a = {-1e5}> { y = Conv(x, a) }"
        )
        with pytest.raises(
            FcnEdgeError, match=r"mine: a holds 1e\+05, more than float16's 65504\. .* --precision fp32"
        ):
            halve(model, "mine")

    def test_scores_straight_from_a_convolution_leave_as_float32(self):
        model = graph(
            "g (uint8[N, h, w, 3] frame) => (float[N, 2, h, w] scores) <float[2, 3, 1, 1] a = {1, 2, 3, 4, 5, 6}> {"
            "f = Cast<to = 1>(frame) p = Transpose<perm = [0, 3, 1, 2]>(f) scores = Conv(p, a) }"
        )
        halve(model, "mine")
        onnx.checker.check_model(model, full_check=True)
        frame = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
        scores = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"frame": frame})[0]
        expected = np.einsum("nhwc,kc->nkhw", frame, [[1, 2, 3], [4, 5, 6]])
        assert np.asarray(scores).dtype == np.float32
        np.testing.assert_array_equal(scores, expected)


def test_rounding_gives_what_numpy_gives_in_float16():
    model = graph(
        "g (float[n] x) => (float[n] y) <float[1] three = {3.0}> {"
        "a = Cast<to = 10>(three) h = Cast<to = 10>(x) product = Mul(h, a) "
        "square = Mul(product, product) y = Cast<to = 1>(square) }"
    )
    x = np.array([0.1, 1.7, 60.0, 86.0, 7e4], np.float32)
    got = onnxruntime.InferenceSession(rounding(model).SerializeToString()).run(None, {"x": x})[0]
    with np.errstate(over="ignore"):
        product = x.astype(np.float16) * np.float16(3)
        expected = (product * product).astype(np.float32)
    np.testing.assert_array_equal(got, expected)
    assert list(np.isinf(expected)) == [False, False, False, True, True]
