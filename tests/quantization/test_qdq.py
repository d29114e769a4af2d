"""The int8 file against integer arithmetic by hand, and against what TensorRT takes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from float_network import CHANNELS, float_network
from onnx import TensorProto, numpy_helper

from fcn_edge.errors import FcnEdgeError
from fcn_edge.quantization.qdq import FIRST, SCORES, layers, quantise
from fcn_edge.quantization.thresholds import Ranges

WATCHED = ("planes", "a", "b", "c", "sum")


@pytest.fixture
def model(tmp_path: Path) -> onnx.ModelProto:
    return onnx.load(float_network(tmp_path / "net.onnx"))


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (2, 40, 48, 3)).astype(np.uint8)


def run(model: onnx.ModelProto, frames: np.ndarray, *names: str) -> list[np.ndarray]:
    """What the graph gives for these tensors, each node computed as it is written."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(onnx.helper.make_tensor_value_info(name, TensorProto.UNDEFINED, None) for name in names)
    for output in watched.graph.output:
        output.ClearField("type")
    session = onnxruntime.InferenceSession(watched.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(each) for each in session.run(list(names), {"frame": frames})]


@pytest.fixture
def seen(model, frames) -> Ranges:
    """Ranges of these very frames."""
    values = dict(zip(WATCHED, run(model, frames, *WATCHED), strict=True))
    largest = {name: float(np.abs(array).max()) for name, array in values.items()}
    return Ranges(largest, {name: array.mean(axis=(0, 2, 3)) for name, array in values.items()})


def kept(model: onnx.ModelProto) -> set[str]:
    return {layer.name for layer in layers(model) if layer.kept}


def test_the_first_convolution_and_the_scores_stay_in_float_and_say_why(model):
    assert {layer.name: layer.kept for layer in layers(model)} == {
        "first": FIRST,
        "depthwise": None,
        "pointwise": None,
        "residual": None,
        "score": SCORES,
    }


def test_a_layer_computes_what_integers_by_hand_do(model, frames, seen):
    quantised = quantise(model, seen, kept(model), "tiny")
    (read,) = run(quantised, frames, "b")
    (got,) = run(quantised, frames, "c")
    weights = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
    kernel = weights["pointwise.w"][:, :, 0, 0].astype(np.float64)
    steps = np.abs(kernel).max(axis=1, keepdims=True) / 127
    step = seen.largest["b"] / 127
    whole = np.clip(np.rint(read / step), -127, 127)
    rounded = np.clip(np.rint(kernel / steps), -127, 127)
    bias = -((rounded * steps - kernel) @ seen.means["b"])  # what rounding the weights adds on average, taken out
    expected = np.einsum("oi,nihw->nohw", rounded, whole) * steps[None, :, :, None] * step + bias[None, :, None, None]
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-3 * np.abs(expected).max())


def test_two_products_of_seven_bit_weights_fit_into_sixteen_bits(model, frames, seen):
    """An activation is at most 255, as kernels shift it above zero."""
    quantised = quantise(model, seen, kept(model), "tiny", weight_bits=7)
    found = {each.name: numpy_helper.to_array(each) for each in quantised.graph.initializer}
    largest = {
        name: int(np.abs(found[f"{name}_quantized"].astype(int)).max()) for name in ("depthwise.w", "pointwise.w")
    }
    assert set(largest.values()) == {64}
    assert 255 * 2 * 64 < 2**15
    (got,), (eight,), (exact,) = (
        run(each, frames, "c") for each in (quantised, quantise(model, seen, kept(model), "tiny"), model)
    )
    assert np.abs(eight - exact).mean() < np.abs(got - exact).mean() < 2.5 * np.abs(eight - exact).mean()


def test_correcting_biases_brings_each_channels_mean_back(model, frames, seen):
    nowhere = Ranges(seen.largest, {name: np.zeros_like(mean) for name, mean in seen.means.items()})
    (exact,) = run(model, frames, "d")
    (plain,) = run(quantise(model, nowhere, kept(model), "tiny"), frames, "d")
    (corrected,) = run(quantise(model, seen, kept(model), "tiny"), frames, "d")
    off, left = (np.abs((each - exact).mean(axis=(0, 2, 3))).max() for each in (plain, corrected))
    assert left < off / 2


@pytest.mark.parametrize("remainder", ["fp32", "fp16"])
def test_nothing_is_in_it_that_tensorrt_refuses(model, seen, remainder):
    quantised = quantise(model, seen, kept(model), "tiny", remainder)
    onnx.checker.check_model(quantised, full_check=True)
    assert quantised.opset_import[0].version == (17 if remainder == "fp32" else 19)
    weights = {each.name: each for each in quantised.graph.initializer}
    nodes = [node for node in quantised.graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")]
    assert len(nodes) == 2 * 3 + 2  # a, b and c, each once for all that read it; two kernels
    for node in nodes:
        scale, zero = weights[node.input[1]], weights[node.input[2]]
        assert scale.data_type == (TensorProto.FLOAT if remainder == "fp32" else TensorProto.FLOAT16)
        assert zero.data_type == TensorProto.INT8
        assert not numpy_helper.to_array(zero).any()
    for name in ("depthwise.w", "pointwise.w"):
        assert numpy_helper.to_array(weights[f"{name}_scale{'.half' if remainder == 'fp16' else ''}"]).shape == (
            CHANNELS,
        )


def test_both_sides_of_a_residual_sum_are_int8(model, seen):
    quantised = quantise(model, seen, kept(model), "tiny")
    produced = {value: node.op_type for node in quantised.graph.node for value in node.output}
    (residual,) = (node for node in quantised.graph.node if node.name == "residual")
    assert [produced[value] for value in residual.input] == ["DequantizeLinear"] * 2


def test_no_step_is_too_small_for_float16(model, seen):
    tiny = Ranges({**seen.largest, "b": 1e-5}, seen.means)
    quantised = quantise(model, tiny, kept(model), "tiny", "fp16")
    scales = [numpy_helper.to_array(each) for each in quantised.graph.initializer if "_scale" in each.name]
    assert min(float(scale.min()) for scale in scales) >= np.finfo(np.float16).tiny


def test_with_all_layers_in_float_the_file_is_as_it_was(model, frames, seen):
    quantised = quantise(model, seen, {layer.name for layer in layers(model)}, "tiny")
    assert np.array_equal(run(quantised, frames, "scores")[0], run(model, frames, "scores")[0])


def test_a_tensor_that_was_not_observed_is_named(model, seen):
    del seen.largest["b"]
    with pytest.raises(FcnEdgeError, match="tiny: b was not observed, so it has no range"):
        quantise(model, seen, kept(model), "tiny")
