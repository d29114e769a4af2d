"""A network to an ONNX file with dynamic N, H and W that says what it is.

The TorchScript exporter is used on purpose: the newer one specialises sides of the form 32k+1 to the
example's (pytorch/pytorch#126607), and a graph of convolutions needs none of what it adds.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import torch
from torch import nn

from fcn_edge.errors import FcnEdgeError
from fcn_edge.files import replacing
from fcn_edge.onnx_export.forms import formed
from fcn_edge.onnx_export.half import halve
from fcn_edge.onnx_export.parity import DECIDED, PARITY_SIZES, Parity, check_parity
from fcn_edge.onnx_export.pools import check_pools
from fcn_edge.onnx_export.resize import resizes
from fcn_edge.spec import METADATA_KEY, Input, ModelSpec, Output

if TYPE_CHECKING:
    from fcn_edge.models.network import Network

OPSET = 17  # the last that TensorRT 8.6 reads; nothing here needs a later one
SHAPES_VALUES = 64  # a tensor of more is no shape that inference computes with
EXAMPLE_BATCH = 2  # an example of one picture would export a fixed batch (pytorch/pytorch#157621)


@dataclass(frozen=True)
class Exported:
    """A file that was written, and how closely it follows PyTorch."""

    path: Path
    spec: ModelSpec
    nodes: int
    megabytes: float
    parity: list[Parity]

    @property
    def float32(self) -> dict[str, list[str]]:
        """The nodes of a float16 file that stay in float32, by what they are; a float32 file names none."""
        return self.spec.provenance.get("float32", {})


def export(
    network: Network,
    spec: ModelSpec,
    path: Path,
    photos: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
    probabilities: bool = False,
) -> Exported:
    """Write `network` to `path` and check it there; a file that fails a check is not left behind.

    spec:   what the file is to say of itself; its input, output and precision (fp32 or fp16) decide what is written.
    photos: uint8 (H, W, 3), BGR: real pictures on which PyTorch and the file have to agree, both in float32.
    sizes:  (H, W) at which they have to, rounded to what the network takes.
    probabilities: at the frame's size, for the scores; the file's spec then says scores at stride 1.
    Raises FcnEdgeError where an axis lost its freedom, a pool has another size in TensorRT, or the two disagree.
    """
    network = network.eval().float()
    network.take_order(spec.input.color)
    module = formed(network, spec, probabilities)
    if probabilities:
        spec = replace(spec, output=Output("scores", stride=1, grid="half_pixel"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        with resizes(module):
            _trace(module, spec, file)
        model = _simplify(onnx.load(file), spec)
        check_pools(model, spec.name)
        if spec.precision == "fp16":
            spec = replace(spec, provenance={**spec.provenance, "float32": halve(model, spec.name)})
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, file)
        on_frames = formed(network, replace(spec, input=Input()), probabilities)
        part = DECIDED if network.decides else 1.0
        parity = check_parity(on_frames, spec, file, photos, sizes, probabilities, part)
    return Exported(path, spec, len(model.graph.node), path.stat().st_size / 1e6, parity)


def _trace(module: nn.Module, spec: ModelSpec, file: Path) -> None:
    height, width = spec.side(4 * spec.stride), spec.side(6 * spec.stride)
    example = torch.zeros(EXAMPLE_BATCH, height, width, 3, dtype=torch.uint8)
    rows = 1
    if spec.input.layout == "NCHW":
        example, rows = example.permute(0, 3, 1, 2).float(), 2
    output = spec.output.kind
    axes = {0: "N", 2: "h", 3: "w"} if output == "scores" else {0: "N", 1: "H", 2: "W"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the exporter itself, explained above
        # of the pads, which it writes down in reverse; the simplifier folds them
        warnings.filterwarnings("ignore", "Constant folding - Only steps=1", UserWarning)
        torch.onnx.export(
            module,
            (example,),
            str(file),
            opset_version=OPSET,
            input_names=["frame"],
            output_names=[output],
            dynamic_axes={"frame": {0: "N", rows: "H", rows + 1: "W"}, output: axes},
            dynamo=False,
        )
    _check_axes(onnx.load(file), spec, "the export")


def _simplify(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
    """onnxsim's result, or onnxslim's where onnxsim fails."""
    import onnxsim

    try:
        simplified, same = onnxsim.simplify(model)
    except Exception as error:  # onnxsim raises whatever its C++ side throws
        same, simplified = False, model
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        warnings.warn(f"onnxsim gave up on {spec.name} ({reason}); onnxslim takes its place.", stacklevel=2)
    if not same:
        import onnxslim

        simplified = onnxslim.slim(model)
    assert isinstance(simplified, onnx.ModelProto)
    _store_weights(simplified.graph)
    _check_axes(simplified, spec, "the simplification")
    return simplified


def _store_weights(graph: onnx.GraphProto) -> None:
    """Put weights that were computed while tracing, and stand in Constant nodes, where all others are."""
    read = {value for node in graph.node if node.op_type == "Conv" for value in node.input[1:]}
    for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] in read]:
        weight = node.attribute[0].t
        weight.name = node.output[0]
        graph.initializer.append(weight)
        graph.node.remove(node)


def _check_axes(model: onnx.ModelProto, spec: ModelSpec, step: str) -> None:
    """Raise FcnEdgeError unless N, H and W of the input and N, h, w of the output are free.

    The names that the exporter gives the output's axes are its caller's wishes, so they are inferred anew.
    """
    bare = _without_weights(model)
    bare.graph.output[0].type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(bare, data_prop=True)
    planes = (0, 2, 3)
    spatial = {"frame": planes if spec.input.layout == "NCHW" else (0, 1, 2), "scores": planes, "labels": (0, 1, 2)}
    for value in (inferred.graph.input[0], inferred.graph.output[0]):
        dims = value.type.tensor_type.shape.dim
        if any(dims[index].HasField("dim_value") for index in spatial[value.name]):
            axes = [dim.dim_value if dim.HasField("dim_value") else "free" for dim in dims]
            raise FcnEdgeError(
                f"{spec.name}: after {step} {value.name} has the axes {axes}; N, height and width have to be free. "
                "Nothing was written. A Python number taken from a tensor's shape fixes an axis: look for int()."
            )


def _without_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with its large initializers as inputs: VGG16's half a gigabyte is not copied to look at shapes."""
    graph = model.graph
    small = [tensor for tensor in graph.initializer if math.prod(tensor.dims) <= SHAPES_VALUES]
    large = [tensor for tensor in graph.initializer if math.prod(tensor.dims) > SHAPES_VALUES]
    inputs = [onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims) for tensor in large]
    bare = onnx.helper.make_graph(graph.node, graph.name, [*graph.input, *inputs], graph.output, small)
    return onnx.helper.make_model(bare, opset_imports=model.opset_import, ir_version=model.ir_version)
