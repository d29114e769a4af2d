"""Models of one 1x1 convolution, so that what they give can be worked out by hand.

Class 0 wins where the frame is dark, else the class of the channel that is brightest.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fcn_edge.spec import METADATA_KEY, ModelSpec

WEIGHT = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], np.float32)
BIAS = np.array([50, 0, 0, 0], np.float32)
SPEC = ModelSpec("tiny", ("dark", "blue", "green", "red"), size=32, stride=8)


def scores_of(frames: np.ndarray) -> np.ndarray:
    """What the tiny models give for (N, H, W, 3): float32 (N, 4, H, W)."""
    return np.moveaxis(frames.astype(np.float32) @ WEIGHT.T + BIAS, 3, 1)


def random_frames(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def write_onnx(
    path: Path,
    spec: ModelSpec | None = SPEC,
    *,
    bias: np.ndarray = BIAS,
    labels: bool = False,
    sides: Sequence[int | str] = ("height", "width"),
) -> Path:
    """A tiny ONNX file: without a spec where that is None, with argmax inside where `labels`."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Cast", ["frame"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "weight", "bias"], ["scores"]),
    ]
    output = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 4, *sides])
    if labels:
        nodes.append(helper.make_node("ArgMax", ["scores"], ["labels"], axis=1, keepdims=0))
        output = helper.make_tensor_value_info("labels", TensorProto.INT64, ["batch", *sides])
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("frame", TensorProto.UINT8, ["batch", *sides, 3])],
        [output],
        [
            numpy_helper.from_array(WEIGHT.reshape(4, 3, 1, 1), "weight"),
            numpy_helper.from_array(bias.astype(np.float32), "bias"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if spec is not None:
        helper.set_model_props(model, {"author": "a test", METADATA_KEY: spec.to_json()})
    onnx.save(model, path)
    return path


def write_tflite(path: Path, side: int) -> Path:
    """The same network as a float TFLite file for side x side, built from the format's own schema."""
    schema: Any = pytest.importorskip("ai_edge_litert.schema_py_generated")
    import flatbuffers

    def tensor(name: str, shape: list[int], buffer: int) -> Any:
        made = schema.TensorT()
        made.name, made.shape, made.buffer, made.type = name, shape, buffer, schema.TensorType.FLOAT32
        return made

    def buffer(data: np.ndarray | None) -> Any:
        made = schema.BufferT()
        made.data = None if data is None else np.frombuffer(data.tobytes(), np.uint8)
        return made

    convolution = schema.Conv2DOptionsT()
    convolution.strideH = convolution.strideW = 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0, 1, 2], [3]
    operator.builtinOptionsType = schema.BuiltinOptions.Conv2DOptions
    operator.builtinOptions = convolution
    graph = schema.SubGraphT()
    graph.tensors = [
        tensor("frame", [1, side, side, 3], 0),
        tensor("weight", [4, 1, 1, 3], 1),
        tensor("bias", [4], 2),
        tensor("scores", [1, side, side, 4], 0),
    ]
    graph.inputs, graph.outputs, graph.operators = [0], [3], [operator]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CONV_2D
    code.version = 1
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [buffer(None), buffer(WEIGHT.reshape(4, 1, 1, 3)), buffer(BIAS)]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))
    return path
