"""A float32 ONNX file in int8: which layers, and the QuantizeLinear and DequantizeLinear nodes that say so.

The nodes are placed by ONNX Runtime's quantiser, told what TensorRT takes and nothing else: scales without zero points,
weights a channel each, biases in float (an int32 DequantizeLinear is refused: NVIDIA/TensorRT#3360). Where a layer's
activation clips, int8 does not follow before it, so that a runtime can compute both as one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from fcn_edge.errors import FcnEdgeError
from fcn_edge.onnx_export.half import endings, halve
from fcn_edge.quantization.graph import QUANTISED, layer_nodes, values_read
from fcn_edge.quantization.thresholds import STEPS, Ranges

Remainder = Literal["fp32", "fp16"]
WeightBits = Literal[7, 8]

WEIGHTS, SCALES = "_quantized", "_scale"  # what ONNX Runtime appends to a weight's name
HALF_OPSET = 19
SMALLEST_HALF = float(np.finfo(np.float16).tiny)  # a scale below is stored with fewer bits, at last as zero
FIRST, SCORES, SUMS = "first convolution", "score layers", "sums of scores"


@dataclass(frozen=True)
class Layer:
    """A node that could be computed in int8."""

    name: str
    op: str  # "Conv" or "Add"
    weights: int  # numbers in it
    kept: str | None  # why it stays in float unless told otherwise


def layers(model: onnx.ModelProto) -> list[Layer]:
    """The convolutions and sums of `model`, in its order.

    Kept in float by default: the first convolution, which reads the picture's own 256 values and has few channels;
    the layers that give scores, and the sums of these: between two classes a step of int8 may decide.
    """
    sizes = {weight.name: int(np.prod(weight.dims)) for weight in model.graph.initializer}
    scores, after = endings(model.graph)
    found: list[Layer] = []
    for node in layer_nodes(model.graph):
        kept = SUMS if node.name in after else SCORES if node.name in scores else None
        if node.op_type == "Conv" and not any(layer.op == "Conv" for layer in found):
            kept = FIRST
        found.append(Layer(node.name, node.op_type, sizes[node.input[1]] if node.op_type == "Conv" else 0, kept))
    return found


def quantise(
    model: onnx.ModelProto,
    ranges: Ranges,
    float_nodes: Collection[str],
    name: str,
    remainder: Remainder = "fp32",
    weight_bits: WeightBits = 8,
) -> onnx.ModelProto:
    """`model`, a float32 graph, with every layer but `float_nodes` between int8 values; `model` is left as it was.

    remainder:   what the float parts are to be in; fp16 raises the opset to 19, the first with float16 scales.
    weight_bits: 7 for x86 CPUs without VNNI, which add two products in 16 bits: with 8 the sum may not fit.
    name:        for errors.
    Raises FcnEdgeError where a tensor that a layer reads was not observed, or a value leaves float16's range.
    """
    chosen = [node for node in layer_nodes(model.graph) if node.name not in float_nodes]
    missing = [value for node in chosen for value in values_read(node) if value not in ranges.largest]
    if missing:
        raise FcnEdgeError(f"{name}: {missing[0]} was not observed, so it has no range. Calibrate this very file.")
    quantised = _placed(model, ranges.largest, [node.name for node in chosen], weight_bits)
    if remainder == "fp16":
        _round_scales(quantised, model)
    _correct_biases(quantised, model, ranges.means, chosen)
    if remainder == "fp16":
        quantised = version_converter.convert_version(quantised, HALF_OPSET)
        halve(quantised, name)
    return quantised


def _placed(
    model: onnx.ModelProto, largest: Mapping[str, float], chosen: list[str], weight_bits: WeightBits
) -> onnx.ModelProto:
    """A copy of `model` with QuantizeLinear and DequantizeLinear before and after what the chosen layers read."""
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not chosen:
        return copy
    ranges: dict[str, Any] = {
        name: TensorData(lowest=np.float32(-value), highest=np.float32(value)) for name, value in largest.items()
    }
    quantiser = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=weight_bits == 7,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, ranges),
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=list(QUANTISED),
        extra_options={
            "ActivationSymmetric": True,
            "WeightSymmetric": True,
            "QuantizeBias": False,
            "OpTypesToExcludeOutputQuantization": list(QUANTISED),  # what reads it asks for int8, or not
        },
    )
    quantiser.quantize_model()
    quantiser.model.topological_sort()
    return quantiser.model.model


def _round_scales(quantised: onnx.ModelProto, source: onnx.ModelProto) -> None:
    """Give every scale a value that float16 has; weights are quantised anew with it."""
    weights = {weight.name: weight for weight in quantised.graph.initializer}
    floats = {weight.name: weight for weight in source.graph.initializer}
    for node in quantised.graph.node:
        if node.op_type != "DequantizeLinear":
            continue
        values, scale = node.input[0], node.input[1]
        rounded = np.maximum(numpy_helper.to_array(weights[scale]), SMALLEST_HALF).astype(np.float16).astype(np.float32)
        weights[scale].CopyFrom(numpy_helper.from_array(rounded, scale))
        if values in weights:
            array = numpy_helper.to_array(floats[values.removesuffix(WEIGHTS)])
            steps = np.rint(array / rounded.reshape(-1, *[1] * (array.ndim - 1)))
            weights[values].CopyFrom(numpy_helper.from_array(np.clip(steps, -STEPS, STEPS).astype(np.int8), values))


def _correct_biases(
    quantised: onnx.ModelProto, source: onnx.ModelProto, means: Mapping[str, np.ndarray], chosen: list[onnx.NodeProto]
) -> None:
    """Take out of each bias what rounding the weights adds to the output of its convolution on average.

    A rounded kernel's sum is off, and on inputs that are never negative, as after a ReLU, so is each output channel;
    a depthwise layer has too few weights for the errors to cancel. Nagel et al. 2019, "Data-Free Quantization Through
    Weight Equalization and Bias Correction", section 4.2, here with means of real pictures.
    """
    weights = {weight.name: weight for weight in quantised.graph.initializer}
    floats = {weight.name: numpy_helper.to_array(weight) for weight in source.graph.initializer}
    for node in chosen:
        if node.op_type != "Conv" or len(node.input) < 3:
            continue
        kernel, bias = floats[node.input[1]], floats[node.input[2]]
        steps = numpy_helper.to_array(weights[node.input[1] + WEIGHTS]).astype(np.float64)
        scale = numpy_helper.to_array(weights[node.input[1] + SCALES]).astype(np.float64)
        off = (steps * scale.reshape(-1, 1, 1, 1) - kernel).sum(axis=(2, 3))  # (outputs, inputs of a group)
        read = means[node.input[0]].reshape(-1, off.shape[1])  # (groups, inputs of a group)
        shift = (off * np.repeat(read, len(off) // len(read), axis=0)).sum(axis=1)
        corrected = (bias - shift).astype(np.float32)
        weights[node.input[2]].CopyFrom(numpy_helper.from_array(corrected, node.input[2]))
