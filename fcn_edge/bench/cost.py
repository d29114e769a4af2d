"""How much work a network is for a frame, counted in its file and not in its runtime.

Operations are those of its convolutions and matrix products, a multiply-add being two, as papers count them; sums,
bounds and means between them are left out. OpenVINO works out the shapes without running anything; where it is not
installed, ONNX Runtime runs the graph once, unfused, and tells the shapes that it met.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from fcn_edge.errors import BackendError, FcnEdgeError
from fcn_edge.prepare import Size
from fcn_edge.runtime.onnx_file import count_parameters
from fcn_edge.spec import ModelSpec

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Work:
    """One multiplying operator: its kind, its inputs' shapes and its output's."""

    op: str
    inputs: list[Shape]
    output: Shape


@dataclass(frozen=True)
class Cost:
    """What a frame costs; None where it could not be counted, and why."""

    parameters: int | None
    operations: float | None
    output: Shape | None  # of the network for that frame
    reasons: dict[str, str]  # field: why it is None


def cost(path: Path, spec: ModelSpec, network: Size) -> Cost:
    """What `path` costs for one frame at the network's (h, w). Raises ModelError for a damaged file."""
    if path.suffix == ".safetensors":
        why = "operations are counted in ONNX files alone: fcn-edge export"
        return Cost(_weights(path), None, None, {"operations": why})
    if path.suffix != ".onnx":
        why = f"counted in ONNX files alone, and this is {path.suffix or 'none'}"
        return Cost(None, None, None, {"parameters": why, "operations": why})
    parameters = count_parameters(path)
    shape = (1, *network, 3) if spec.input.layout == "NHWC" else (1, 3, *network)
    try:
        works, output = count(path, shape, np.dtype(spec.input.dtype))
    except (FcnEdgeError, RuntimeError) as error:
        return Cost(parameters, None, None, {"operations": f"not counted: {str(error).splitlines()[0]}"})
    return Cost(parameters, float(sum(operations(work) for work in works)), output, {})


def count(path: Path, shape: Shape, dtype: np.dtype[Any]) -> tuple[list[Work], Shape]:
    """The multiplying operators of an ONNX file for an input of that shape, and its first output's shape."""
    if find_spec("openvino") is not None:
        return by_openvino(path, shape)
    if find_spec("onnxruntime") is not None:
        return by_onnxruntime(path, shape, dtype)
    raise BackendError("operations are counted by OpenVINO or ONNX Runtime: pip install onnxruntime")


def operations(work: Work) -> int:
    """Two for each multiply-add, whatever the strides and groups."""
    first, weights, output = work.inputs[0], work.inputs[1], work.output
    if work.op == "Conv":  # weights: out, in of a group, kernel
        return 2 * prod(output) * prod(weights[1:])
    if work.op == "ConvTranspose":  # weights: in, out of a group, kernel: each input value is spread over the kernel
        return 2 * prod(first) * prod(weights[1:])
    return 2 * prod(output) * first[-1]  # a matrix product


OPENVINO = {
    "Convolution": "Conv",
    "GroupConvolution": "Conv",  # whose weights have the groups first: group, out, in, kernel
    "ConvolutionBackpropData": "ConvTranspose",
    "GroupConvolutionBackpropData": "ConvTranspose",
    "MatMul": "MatMul",
}


def by_openvino(path: Path, shape: Shape) -> tuple[list[Work], Shape]:
    """Without running it. Raises RuntimeError for a file that OpenVINO cannot read, or an input that it cannot take."""
    from openvino.frontend import FrontEndManager  # pyright: ignore[reportMissingImports]

    frontend = FrontEndManager().load_by_framework("onnx")
    model: Any = frontend.convert(frontend.load(str(path)))
    model.reshape({0: list(shape)})
    return list(_works(model.get_ordered_ops())), tuple(model.outputs[0].get_partial_shape().get_min_shape())


def _works(nodes: Iterable[Any]) -> Iterable[Work]:
    for node in nodes:
        kind = node.get_type_name()
        if kind not in OPENVINO:
            continue
        first, weights = (tuple(node.input(index).get_shape()) for index in (0, 1))
        if kind == "MatMul" and node.get_attributes().get("transpose_a"):
            first = (*first[:-2], first[-1], first[-2])
        yield Work(OPENVINO[kind], [first, weights[1:] if kind.startswith("Group") else weights],
                   tuple(node.output(0).get_shape()))  # fmt: skip


ONNX = {"Conv": "Conv", "ConvTranspose": "ConvTranspose", "MatMul": "MatMul", "Gemm": "MatMul"}


def by_onnxruntime(path: Path, shape: Shape, dtype: np.dtype[Any]) -> tuple[list[Work], Shape]:
    """By running it once, unfused, on zeros. Raises RuntimeError for a file that ONNX Runtime cannot run."""
    import msgspec
    import onnxruntime as ort

    options: Any = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling, options.log_severity_level = True, 4
    with TemporaryDirectory(prefix="fcn-edge-count-") as folder:
        options.profile_file_prefix = str(Path(folder) / "shapes")
        try:
            session: Any = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
            outputs = session.run(None, {session.get_inputs()[0].name: np.zeros(shape, dtype)})
        except Exception as error:  # its exceptions share no base but this
            raise RuntimeError(str(error)) from error
        events: list[dict[str, Any]] = msgspec.json.decode(Path(session.end_profiling()).read_bytes())
    works = [
        Work(ONNX[event["args"]["op_name"]], *_shapes(event["args"]))
        for event in events
        if event.get("cat") == "Node" and event["args"].get("op_name") in ONNX and "output_type_shape" in event["args"]
    ]
    return works, tuple(outputs[0].shape)


def _shapes(told: dict[str, Any]) -> tuple[list[Shape], Shape]:
    inputs, outputs = (
        [tuple(next(iter(each.values()))) for each in told[f"{name}_type_shape"]] for name in ("input", "output")
    )
    return inputs, outputs[0]


def _weights(path: Path) -> int:
    """Numbers in a checkpoint, but for what batch normalisation counts."""
    from safetensors import safe_open

    opened: Any = safe_open
    with opened(str(path), framework="numpy") as file:
        names = [name for name in file.keys() if not name.endswith("num_batches_tracked")]  # noqa: SIM118 (not a dict)
        return sum(prod(file.get_slice(name).get_shape()) for name in names)
