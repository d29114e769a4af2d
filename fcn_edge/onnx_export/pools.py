"""The proof that pools which round up give TensorRT's sizes too.

PyTorch, and ONNX since opset 22, leave out a last window that would start beyond the input, in the padding.
TensorRT's parser counts it, without a word: 5 pixels by a 2x2 pool with stride 2 and padding 1 are 3 there
and 4 here (tried with TensorRT-RTX 1.7; onnx/onnx#5711, pytorch/pytorch#71549).
"""

from __future__ import annotations

import onnx

from fcn_edge.errors import FcnEdgeError

POOLS = ("MaxPool", "AveragePool", "LpPool")


def check_pools(model: onnx.ModelProto, name: str) -> None:
    """Raise FcnEdgeError for a pool of the graph that rounds up and has another size in TensorRT at some input."""
    rounding = [node for node in model.graph.node if node.op_type in POOLS and _attributes(node).get("ceil_mode")]
    for node in rounding:
        attributes = _attributes(node)
        kernel = attributes["kernel_shape"]
        strides = attributes.get("strides", [1] * len(kernel))
        dilations = attributes.get("dilations", [1] * len(kernel))
        ends = attributes.get("pads", [0] * 2 * len(kernel))[len(kernel) :]
        for size, stride, dilation, end in zip(kernel, strides, dilations, ends, strict=True):
            if not never_starts_in_padding((size - 1) * dilation + 1, stride, end):
                raise FcnEdgeError(
                    f"{name}: {node.op_type} {node.name} rounds up with kernel {size}, stride {stride} and padding "
                    f"{end}: at some sizes TensorRT makes a row more of it than PyTorch. Nothing was written. Drop "
                    "ceil_mode and pad what it reads, or take a kernel of at least stride + padding."
                )


def never_starts_in_padding(kernel: int, stride: int, end: int) -> bool:
    """Whether no input size lets a pool that rounds up have its last window start behind the input.

    Of n pixels with b before and e behind, the last window starts at ceil((n + b + e - kernel) / stride) * stride,
    which is at most n + b + e - kernel + stride - 1, and is that for one n in `stride`. Behind the input means from
    n + b on; so for no n where e + stride - 1 < kernel.
    """
    return end + stride - 1 < kernel


def _attributes(node: onnx.NodeProto) -> dict:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
