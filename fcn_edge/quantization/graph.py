"""Which nodes of an ONNX graph have an int8 form that gains, and what these read."""

from __future__ import annotations

import onnx

from fcn_edge.onnx_export.half import size_values

QUANTISED = ("Conv", "Add")  # a transposed convolution's int8 is slower or wrong (NVIDIA/TensorRT#1694, #1699)


def layer_nodes(graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Convolutions, and sums of what the network computes; neither sums with a constant nor sums of sizes."""
    constant = {weight.name for weight in graph.initializer}
    constant |= {value for node in graph.node if node.op_type == "Constant" for value in node.output}
    sizes = size_values(graph)
    return [
        node
        for node in graph.node
        if node.op_type in QUANTISED
        and not sizes.intersection(node.output)
        and not constant.intersection(values_read(node))
    ]


def values_read(node: onnx.NodeProto) -> list[str]:
    """The values that a layer reads: a convolution's weights are none."""
    return list(node.input[:1] if node.op_type == "Conv" else node.input)
