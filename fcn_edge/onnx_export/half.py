"""A float32 graph in float16, every type written down: strongly typed TensorRT computes what stands in the file.

Three converters were tried on fcn8s-lite with the same parts kept in float32. ONNX Runtime's (1.31) rounds every value
between two kept nodes to float16, and leaves nodes unsorted and names twice, which its own checker refuses.
onnxconverter-common's (1.16) rounds the scores before they are summed, and gives float16 for an output declared
float32. ModelOpt's AutoCast replaces onnx and onnxruntime in its environment. After PyTorch's `.half()` batch norms are
folded in float16. What is needed is one walk over the graph.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from fcn_edge.errors import FcnEdgeError

FLOAT, HALF = TensorProto.FLOAT, TensorProto.FLOAT16
RANGE = float(np.finfo(np.float16).max)  # 65504
ALWAYS_FLOAT = {("Resize", 1), ("Resize", 2)}  # region and scales, whatever the type of what is resized
NORMALISATION, MEANS, SUMS = "normalisation", "mean over the map", "sums and upsampling of scores"


def halve(model: onnx.ModelProto, name: str) -> dict[str, list[str]]:
    """Turn a float32 `model` into float16 in place, inputs, outputs and a few parts excepted; returns these parts.

    name: for errors.
    Returns the names of the nodes that stay in float32, by what they are.
    Raises FcnEdgeError where a weight lies beyond float16's range.
    """
    types = _types(model)
    parts = _float32_parts(model.graph, types)
    kept = {node for nodes in parts.values() for node in nodes}
    typed = _Typed(model.graph, types, name)
    for node in model.graph.node:
        typed.add(node, FLOAT if node.name in kept else HALF)
    del model.graph.node[:], model.graph.initializer[:], model.graph.value_info[:]
    model.graph.node.extend(typed.nodes)
    model.graph.initializer.extend(typed.weights.values())
    return parts


def rounding(model: onnx.ModelProto) -> onnx.ModelProto:
    """A float32 graph that gives what `model` gives where each of its float16 values really is one.

    ONNX Runtime (1.31, x86) has no float16 convolution: it computes float16 files in float32, and drops the casts
    around a layer, so that a value beyond float16's range comes through unharmed. Here it is infinite.
    """
    types = _types(model)
    rounded = onnx.ModelProto()
    rounded.CopyFrom(model)
    graph = rounded.graph
    for weight in graph.initializer:
        if weight.data_type == HALF:
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight).astype(np.float32), weight.name))
    nodes: list[NodeProto] = []
    for node in graph.node:
        nodes.append(node)
        for index, value in enumerate(node.output):
            if types.get(value) == HALF:
                node.output[index] = f"{value}.exact"
                nodes.append(helper.make_node("Cast", [f"{value}.exact"], [f"{value}.half"], to=HALF))
                nodes.append(helper.make_node("Cast", [f"{value}.half"], [value], to=FLOAT))
                if node.op_type == "Cast":
                    _cast_to(node, FLOAT)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    return rounded


def _float32_parts(graph: onnx.GraphProto, types: dict[str, int]) -> dict[str, list[str]]:
    """What stays in float32. The figures are of the bundled fcn8s-lite on 102 photos, all values rounded."""
    parts = {
        # A mean of 122.679 is 122.6875 in float16. The kernel that casts the bytes does this too, so it costs nothing.
        NORMALISATION: _before_convolutions(graph, types),
        # Where a runtime adds up in float16 too, one after the other, means of 289 values are off by up to 0.012;
        # rounded once they are by 0.001.
        MEANS: [node.name for node in graph.node if node.op_type in ("ReduceMean", "GlobalAveragePool")],
        # In float16 0.041 % of the labels change, with these in float32 0.024 %; with the score layers too 0.022 %,
        # for which whole feature maps would have to be cast. So those stay in float16.
        SUMS: endings(graph)[1],
    }
    return {part: nodes for part, nodes in parts.items() if nodes}


def _before_convolutions(graph: onnx.GraphProto, types: dict[str, int]) -> list[str]:
    reached = {value.name for value in graph.input}
    found: list[str] = []
    for node in graph.node:
        if node.op_type != "Conv" and node.input and node.input[0] in reached and types.get(node.output[0]) == FLOAT:
            reached.update(node.output)
            found.append(node.name)
    return found


def endings(graph: onnx.GraphProto) -> tuple[list[str], list[str]]:
    """The last convolution on each way to an output, and what lies between these and the output.

    A score's transposed convolution counts as what lies between.
    """
    produced = {value: node for node in graph.node for value in node.output}
    sizes = size_values(graph)
    last: set[str] = set()
    between: set[str] = set()
    waiting = [value.name for value in graph.output]
    while waiting:
        node = produced.get(waiting.pop())
        if node is None or node.name in last | between:
            continue
        if node.op_type == "Conv":
            last.add(node.name)
            continue
        between.add(node.name)
        waiting += [value for value in node.input if value not in sizes]
    return tuple([node.name for node in graph.node if node.name in names] for names in (last, between))  # type: ignore[return-value]


def size_values(graph: onnx.GraphProto) -> set[str]:
    """What is computed from shapes alone: whole numbers, whatever the operator."""
    found: set[str] = set()
    for node in graph.node:
        if node.op_type == "Shape" or (node.input and node.input[0] in found):
            found.update(node.output)
    return found


class _Typed:
    """A graph that grows node by node, each in the type that is wanted of it, with casts where two types meet."""

    def __init__(self, graph: onnx.GraphProto, types: dict[str, int], name: str) -> None:
        self.nodes: list[NodeProto] = []
        self.weights = {weight.name: weight for weight in graph.initializer if weight.data_type != FLOAT}
        self._floats = {weight.name: weight for weight in graph.initializer if weight.data_type == FLOAT}
        self._types, self._name = types, name
        self._now: dict[str, int] = {value.name: FLOAT for value in graph.input}  # of the values that were float32
        self._outputs = {value.name for value in graph.output}
        self._cast: set[str] = set()

    def add(self, node: NodeProto, wanted: int) -> None:
        """Append `node` with what it gives as `wanted`; a node that gives no floats reads what there is."""
        gives = [value for value in node.output if self._types.get(value) == FLOAT]
        if node.op_type == "Constant" and gives:
            self._floats[gives[0]] = node.attribute[0].t
            return
        if node.op_type == "QuantizeLinear":  # its scale is of the type of what it reads
            wanted = self._now[node.input[0]]
            node.input[1] = self._as(node.input[1], wanted)
        for index, value in enumerate(node.input):
            if value in self._floats or (gives and self._types.get(value) == FLOAT):
                always = not gives or (node.op_type, index) in ALWAYS_FLOAT
                node.input[index] = self._as(value, FLOAT if always else wanted)
        if node.op_type == "Cast" and gives:
            _cast_to(node, wanted)
        self._now.update(dict.fromkeys(gives, wanted))
        self.nodes.append(node)
        for value in self._outputs.intersection(gives):
            if wanted == HALF:
                node.output[list(node.output).index(value)] = f"{value}.half"
                self.nodes.append(helper.make_node("Cast", [f"{value}.half"], [value], f"{value}.cast", to=FLOAT))
                self._now[value] = FLOAT

    def _as(self, value: str, wanted: int) -> str:
        """The name under which `value` is there as `wanted`."""
        if value in self._floats:
            return self._weight(value, wanted)
        if self._now[value] == wanted:
            return value
        other = f"{value}.{'float' if wanted == FLOAT else 'half'}"
        if other not in self._cast:
            self._cast.add(other)
            self.nodes.append(helper.make_node("Cast", [value], [other], f"{other}.cast", to=wanted))
        return other

    def _weight(self, value: str, wanted: int) -> str:
        name = value if wanted == FLOAT else f"{value}.half"
        if name not in self.weights:
            array = numpy_helper.to_array(self._floats[value])
            if wanted == HALF:
                largest = float(np.abs(array).max(initial=0))
                if largest > RANGE:
                    raise FcnEdgeError(
                        f"{self._name}: {value} holds {largest:.4g}, more than float16's {RANGE:.0f}. Nothing was "
                        "written. Export it with --precision fp32."
                    )
                array = array.astype(np.float16)
            self.weights[name] = numpy_helper.from_array(array, name)
        return name


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """The element type of every value and weight."""
    graph = onnx.shape_inference.infer_shapes(model, strict_mode=True).graph
    types = {value.name: value.type.tensor_type.elem_type for value in (*graph.value_info, *graph.input, *graph.output)}
    return types | {weight.name: weight.data_type for weight in graph.initializer}


def _cast_to(node: NodeProto, wanted: int) -> None:
    next(attribute for attribute in node.attribute if attribute.name == "to").i = wanted
