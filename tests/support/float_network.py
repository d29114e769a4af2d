"""A float32 ONNX file with a layer of each kind that quantising tells apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fcn_edge.spec import METADATA_KEY, ModelSpec

SPEC = ModelSpec("tiny", ("one", "two", "three"), size=32, stride=1, sides="any", resize="stretch", trained=False)
CHANNELS = 6


def float_network(path: Path, gain: float = 1.0) -> Path:
    """`first` (kept in float), `depthwise` with a ReLU, `pointwise`, `residual` (their sum) and `score`, written to
    `path`; the weights of the second are multiplied by `gain`."""
    rng = np.random.default_rng(7)
    kernels = {
        "first": np.abs(rng.normal(size=(CHANNELS, 3, 1, 1))) / 3,
        "depthwise": rng.normal(size=(CHANNELS, 1, 3, 3)) * gain,
        "pointwise": rng.normal(size=(CHANNELS, CHANNELS, 1, 1)),
        "score": rng.normal(size=(3, CHANNELS, 1, 1)),
    }
    weights = [numpy_helper.from_array(array.astype(np.float32), f"{name}.w") for name, array in kernels.items()]
    weights += [
        numpy_helper.from_array(np.zeros(len(array), np.float32), f"{name}.b") for name, array in kernels.items()
    ]
    nodes = [
        helper.make_node("Cast", ["frame"], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["planes"], "planes", perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "first.w", "first.b"], ["a"], "first"),
        helper.make_node(
            "Conv", ["a", "depthwise.w", "depthwise.b"], ["d"], "depthwise", group=CHANNELS, pads=[1, 1, 1, 1]
        ),
        helper.make_node("Relu", ["d"], ["b"], "relu"),
        helper.make_node("Conv", ["b", "pointwise.w", "pointwise.b"], ["c"], "pointwise"),
        helper.make_node("Add", ["a", "c"], ["sum"], "residual"),
        helper.make_node("Conv", ["sum", "score.w", "score.b"], ["scores"], "score"),
    ]
    frame = helper.make_tensor_value_info("frame", TensorProto.UINT8, ["n", "h", "w", 3])
    scores = helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", 3, "h", "w"])
    graph = helper.make_graph(nodes, "tiny", [frame], [scores], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {METADATA_KEY: SPEC.to_json()})
    onnx.save(model, path)
    return path
