"""How much work a network is for a frame, counted in its file and not in its runtime.

Operations are those of its convolutions and matrix products, a multiply-add being two, as papers count them; sums,
bounds and means between them are left out. OpenVINO works out the shapes of an ONNX file without running anything;
where it is not installed, ONNX Runtime runs the graph once, unfused, and tells the shapes that it met.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np

from fcn_edge.engine import sidecar
from fcn_edge.errors import BackendError, ModelError
from fcn_edge.files import sha256
from fcn_edge.prepare import Size
from fcn_edge.runtime.common import first_line, wrong_shape
from fcn_edge.runtime.onnx_file import count_parameters
from fcn_edge.spec import ModelSpec

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Cost:
    """What a frame costs; None where it could not be counted, and why."""

    parameters: int | None
    operations: float | None
    output: Shape | None  # of the network for that frame, scores or labels
    reasons: dict[str, str]  # field: why it is None


def cost(path: Path, spec: ModelSpec, network: Size) -> Cost:
    """What `path` costs for one frame at the network's (h, w); an engine costs what its ONNX file does.

    Raises ModelError for a damaged file.
    """
    if path.suffix == ".plan":
        return _engine(path, network)
    shape = (1, *network, 3) if spec.input.layout == "NHWC" else (1, 3, *network)
    parameters = None
    try:
        if path.suffix == ".tflite":
            return Cost(*by_tflite(path), {})
        if path.suffix != ".onnx":
            return Cost(*by_torch(path, spec, shape), {})
        parameters = count_parameters(path)
        return Cost(parameters, *count(path, shape, np.dtype(spec.input.dtype)), {})
    except BackendError as error:
        return Cost(parameters, None, None, {"operations": str(error)})


def count(path: Path, shape: Shape, dtype: np.dtype[Any]) -> tuple[float, Shape]:
    """Operations of an ONNX file for an input of that shape, and its first output's shape. Raises BackendError."""
    if find_spec("openvino") is not None:
        return by_openvino(path, shape)
    if find_spec("onnxruntime") is not None:
        return by_onnxruntime(path, shape, dtype)
    raise BackendError("operations are counted by OpenVINO or ONNX Runtime: pip install onnxruntime")


def convolution(weights: Shape, output: Shape) -> int:
    """weights: (out, in of a group, kernel)."""
    return 2 * prod(output) * prod(weights[1:])


def transposed(first: Shape, weights: Shape) -> int:
    """weights: (in, out of a group, kernel); each value that comes in is spread over the kernel."""
    return 2 * prod(first) * prod(weights[1:])


def by_openvino(path: Path, shape: Shape) -> tuple[float, Shape]:
    """Operations and the first output's shape, without running it. Raises BackendError where OpenVINO can't read it."""
    import openvino as ov
    from openvino.frontend import FrontEndManager

    try:
        frontend = FrontEndManager().load_by_framework("onnx")
        model: Any = frontend.convert(frontend.load(str(path)))
        taken = model.inputs[0].get_partial_shape()
        if not taken.compatible(ov.PartialShape(list(shape))):  # a file of fixed sides would be changed without a word
            raise wrong_shape(path, list(taken), shape)
        model.reshape({0: list(shape)})
        total = sum(_operations(node) for node in model.get_ordered_ops())
        return float(total), tuple(model.outputs[0].get_shape())
    except RuntimeError as error:  # of the front end, all of them
        raise BackendError(f"OpenVINO does not tell the shapes in {path}: {first_line(error)}") from error


def _operations(node: Any) -> int:
    kind = node.get_type_name()
    if kind == "MatMul":
        first = list(node.input(0).get_shape())
        inner = first[-2] if node.get_attributes().get("transpose_a") and len(first) > 1 else first[-1]
        return 2 * prod(node.output(0).get_shape()) * inner
    if not kind.removeprefix("Group").startswith("Convolution"):
        return 0
    first, weights = (tuple(node.input(index).get_shape()) for index in (0, 1))
    weights = weights[1:] if kind.startswith("Group") else weights  # (group, out, in, kernel)
    if kind.endswith("BackpropData"):
        return transposed(first, weights)
    return convolution(weights, tuple(node.output(0).get_shape()))


def by_onnxruntime(path: Path, shape: Shape, dtype: np.dtype[Any]) -> tuple[float, Shape]:
    """The same by running it once, unfused, on zeros. Raises BackendError where ONNX Runtime cannot run it."""
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.log_severity_level = True, 4
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights have no shape to tell
    with TemporaryDirectory(prefix="fcn-edge-count-") as folder:
        options.profile_file_prefix = str(Path(folder) / "shapes")
        try:
            session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            outputs = session.run(None, {session.get_inputs()[0].name: np.zeros(shape, dtype)})
        except Exception as error:  # its exceptions share no base but this
            raise BackendError(f"ONNX Runtime does not tell the shapes in {path}: {first_line(error)}") from error
        events: list[dict[str, Any]] = msgspec.json.decode(Path(session.end_profiling()).read_bytes())
    told = (event["args"] for event in events if event.get("cat") == "Node")
    return float(sum(_met(each) for each in told if "output_type_shape" in each)), tuple(outputs[0].shape)


def _met(told: dict[str, Any]) -> int:
    """Operations of a node that ran, by the shapes that it met."""
    if told["op_name"] not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    first, weights = _shapes(told["input_type_shape"])[:2]
    (output,) = _shapes(told["output_type_shape"])
    if told["op_name"] == "Conv":
        return convolution(weights, output)
    if told["op_name"] == "ConvTranspose":
        return transposed(first, weights)
    inner = prod(first) // output[0] if told["op_name"] == "Gemm" else first[-1]  # a Gemm's may be transposed
    return 2 * prod(output) * inner


def _shapes(told: list[dict[str, list[int]]]) -> list[Shape]:
    return [tuple(shape) for each in told for shape in each.values()]


def by_tflite(path: Path) -> tuple[int, float, Shape]:
    """Parameters, operations and the first output's shape of a TFLite file, which says all of them.

    Raises BackendError where LiteRT is not installed, ModelError for a damaged file.
    """
    try:
        from ai_edge_litert import schema_py_generated as schema
    except ImportError as error:
        raise BackendError("a TFLite file is read by LiteRT: pip install ai-edge-litert") from error
    try:
        graph: Any = schema.Model.GetRootAsModel(path.read_bytes(), 0)
        main = graph.Subgraphs(0)
        products = list(_tflite_products(schema.BuiltinOperator, graph, main))
        learnt = {tensor: prod(_sides(main, tensor)) for _, tensors in products for tensor in tensors}
        return sum(learnt.values()), float(sum(each for each, _ in products)), _sides(main, main.Outputs(0))
    except (AttributeError, TypeError, ValueError, IndexError, struct.error, OSError) as error:
        raise ModelError(f"{path} is no TFLite file, or is damaged. Copy it again.") from error


def _tflite_products(kinds: Any, graph: Any, main: Any) -> Iterator[tuple[int, list[int]]]:
    """Operations of each multiplying operator, and the tensors that it learnt; channels are last here."""
    for node in (main.Operators(index) for index in range(main.OperatorsLength())):
        code = graph.OperatorCodes(node.OpcodeIndex())
        kind = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())  # the second held it while it fitted in 7 bits
        tensors = [int(index) for index in node.InputsAsNumpy()]
        output = prod(_sides(main, node.Outputs(0)))
        if kind in (kinds.CONV_2D, kinds.FULLY_CONNECTED):  # weights: (out, kernel, in)
            yield 2 * output * prod(_sides(main, tensors[1])[1:]), tensors[1:3]
        elif kind == kinds.DEPTHWISE_CONV_2D:  # weights: (1, kernel, channels)
            yield 2 * output * prod(_sides(main, tensors[1])[1:3]), tensors[1:3]
        elif kind == kinds.TRANSPOSE_CONV:  # inputs: shape, weights (out, kernel, in), values
            high, wide = _sides(main, tensors[2])[1:3]
            yield 2 * high * wide * prod(_sides(main, tensors[1])), [tensors[1], *tensors[3:4]]


def _sides(main: Any, tensor: int) -> Shape:
    return tuple(int(side) for side in main.Tensors(tensor).ShapeAsNumpy()) if tensor >= 0 else (0,)  # -1: no bias


def by_torch(path: Path, spec: ModelSpec, shape: Shape) -> tuple[int, float, Shape]:
    """Parameters, operations and the output's shape of a checkpoint, by running it once. Raises BackendError."""
    from fcn_edge.runtime.torch import Torch

    opened = Torch(path, spec)
    try:
        return opened.parameters, *opened.count(np.zeros(shape, spec.input.dtype))
    finally:
        opened.close()


def _engine(path: Path, network: Size) -> Cost:
    papers = sidecar.read(path)
    source = Path(papers.source)
    if not source.is_file() or sha256(source) != papers.key.onnx:
        return _unknown(f"they are counted in the ONNX file that the engine was built from, {source}, which is gone.")
    return cost(source, papers.spec, network)


def _unknown(why: str) -> Cost:
    return Cost(None, None, None, {"parameters": why, "operations": why})
