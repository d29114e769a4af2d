"""A float32 ONNX file in int8: which layers, and the QuantizeLinear and DequantizeLinear nodes that say so.

The nodes are placed by ONNX Runtime's quantiser, told what TensorRT takes and nothing else: scales without zero points,
weights a channel each, biases in float (an int32 DequantizeLinear is refused: NVIDIA/TensorRT#3360). Where a layer's
activation clips, int8 does not follow before it, so that a runtime can compute both as one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from fcn_edge.errors import FcnEdgeError
from fcn_edge.onnx_export.half import endings

QUANTISED = ("Conv", "Add")  # what has an int8 form that gains; a transposed convolution's is slower or wrong (#1694)
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
    for node in model.graph.node:
        if node.op_type not in QUANTISED or any(len(value) == 0 or value in sizes for value in _read(node)):
            continue
        kept = SUMS if node.name in after else SCORES if node.name in scores else None
        if node.op_type == "Conv" and not any(layer.op == "Conv" for layer in found):
            kept = FIRST
        weights = sizes.get(node.input[1], 0) if node.op_type == "Conv" else 0
        found.append(Layer(node.name, node.op_type, weights, kept))
    return found


def quantise(
    model: onnx.ModelProto, thresholds: Mapping[str, float], float_nodes: Collection[str], name: str
) -> onnx.ModelProto:
    """`model`, a float32 graph, with every layer but `float_nodes` between int8 values; `model` is left as it was.

    thresholds: the largest |x| that int8 is to reach, by tensor.
    name:       for errors.
    Raises FcnEdgeError where a tensor that a layer reads has no threshold.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorData, TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

    chosen = [layer.name for layer in layers(model) if layer.name not in float_nodes]
    missing = [
        value
        for node in model.graph.node
        if node.name in chosen
        for value in _read(node)
        if value not in thresholds
    ]
    if missing:
        raise FcnEdgeError(f"{name}: {missing[0]} was not observed, so it has no range. Calibrate this very file.")
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    ranges = {key: TensorData(lowest=np.float32(-value), highest=np.float32(value)) for key, value in thresholds.items()}
    quantiser = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=False,
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
    if chosen:
        quantiser.quantize_model()
    quantiser.model.topological_sort()
    return quantiser.model.model


def _read(node: onnx.NodeProto) -> list[str]:
    """The tensors that a layer reads, without a convolution's weights."""
    return list(node.input[:1] if node.op_type == "Conv" else node.input)
