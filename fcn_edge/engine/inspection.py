"""The precision that a network has, that its engine has, and whether both are what was asked for.

Counted are the layers that multiply, convolutions above all: they are where precision costs and pays, and the others
are fused into them. On the parsed network a type is what the file says, and int8 where values and weights
both were dequantised. On the engine it is what the inspector says of the input of the kernel that was chosen.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcn_edge.engine import complaints
from fcn_edge.engine.versions import Trt
from fcn_edge.errors import ModelError
from fcn_edge.spec import ModelSpec

if TYPE_CHECKING:
    import tensorrt

TYPES = (  # as DataType and the inspector spell them, in the order in which they are looked for
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|half|float16"),
    ("fp8", r"fp8"),
    ("int8", r"u?int8"),
    ("int4", r"int4"),
    ("fp32", r"fp32|float"),
)
WIDTHS = {"fp32": 32, "fp16": 16, "bf16": 16, "int8": 8, "fp8": 8, "int4": 4}
# Kernels of TensorRT's own, of Myelin's ("correlation") and, by "ParameterType", of those named after a library
MULTIPLYING = re.compile(r"conv|correlation|gemm|matmul|matrixmultiply", re.IGNORECASE)


def type_name(words: str) -> str:
    """fp32, fp16, ... from the words of a data type: FLOAT, "Channel major FP16 format where channel % 8 == 0"."""
    return next((name for name, pattern in TYPES if re.search(pattern, words, re.IGNORECASE)), words.lower())


def count_types(trt: Trt, network: tensorrt.INetworkDefinition) -> dict[str, int]:
    """Multiplying layers of a parsed network by the type that they compute in: {"fp16": 61, "fp32": 5}."""
    kinds = trt.api.LayerType
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    dequantised = {layer.get_output(0).name: layer for layer in layers if layer.type == kinds.DEQUANTIZE}
    counted: Counter[str] = Counter()
    for layer in layers:
        if layer.type in (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY):
            taken = [
                layer.get_input(index) for index in range(min(2, layer.num_inputs))
            ]  # values, and weights if computed
            sources = [dequantised.get(each.name) for each in taken]
            narrow = len(sources) == 2 and all(sources)
            counted[type_name((sources[0].get_input(0) if narrow else taken[0]).dtype.name)] += 1  # type: ignore[union-attr]
    return dict(counted.most_common())


def check_asked(path: Path, spec: ModelSpec, counted: Mapping[str, int]) -> None:
    """Raises ModelError where the file's network is not of the precision that its spec promises."""
    narrow = {name for name in counted if WIDTHS.get(name, 32) < 32}
    wrong = bool(narrow) if spec.precision == "fp32" else spec.precision not in narrow
    if wrong:
        found = ", ".join(f"{count} {name}" for name, count in counted.items()) or "none"
        raise ModelError(
            f"{path} says that it is {spec.precision}, and its multiplying layers are not: {found}. "
            f"Export it again: fcn-edge export --precision {spec.precision}"
        )


def check_achieved(path: Path, counted: Mapping[str, int], achieved: Mapping[str, int], profiles: int) -> None:
    """Raises ModelError where the engine computes more layers wider than the file asks, or any narrower.

    profiles: of the engine, whose layers `achieved` counts once for each.
    More, not other: TensorRT merges layers, so that an engine has fewer of them than its network.
    """
    for name in achieved:
        width = WIDTHS.get(name, 32)
        asked = sum(count for other, count in counted.items() if WIDTHS.get(other, 32) >= width)
        made = sum(count for other, count in achieved.items() if WIDTHS.get(other, 32) >= width)
        if made > asked * profiles or width < min((WIDTHS.get(other, 32) for other in counted), default=32):
            each = f" for each of {profiles} profiles" if profiles > 1 else ""
            raise ModelError(
                f"{path}: the engine would compute {_told(achieved)}, the file asks for {_told(counted)}{each}. Take a "
                "TensorRT or a GPU that has the file's precision, or another file: fcn-edge export --precision fp32"
            )


def inspect(trt: Trt, engine: tensorrt.ICudaEngine) -> dict[str, int]:
    """Multiplying layers of a loaded engine by type, as its inspector tells; built with detailed verbosity."""
    inspector = engine.create_engine_inspector()
    return count_kernels(trt, inspector.get_engine_information(trt.api.LayerInformationFormat.JSON))


def count_kernels(trt: Trt, text: str) -> dict[str, int]:
    """The same from the inspector's JSON."""
    counted: Counter[str] = Counter()
    for kernel in json.loads(text).get("Layers", []):
        if isinstance(kernel, str):  # without detailed verbosity there are names alone
            continue
        kind = f"{kernel.get('LayerType', '')} {kernel.get('ParameterType', '')}"
        if MULTIPLYING.search(kind) and kernel.get("Inputs"):
            counted[type_name(trt.tensor_type(kernel["Inputs"][0]))] += 1
    return dict(counted.most_common())


def check_pools(path: Path, trt: Trt, network: tensorrt.INetworkDefinition) -> None:
    """Raises ModelError for a pool that TensorRT gives a row more than PyTorch and ONNX Runtime, at some size.

    Rounding up, TensorRT counts a last window that starts in the padding behind the input, the others do not.
    (onnx/onnx 5711.) Of the last window's start the rest that is missing to the input's end is at most
    padding + stride - 1 - kernel; where that is negative, no window starts there.
    """
    api = trt.api
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.type != api.LayerType.POOLING:
            continue
        pool: Any = layer
        pool.__class__ = api.IPoolingLayer  # the binding hands out its base
        if pool.padding_mode != api.PaddingMode.EXPLICIT_ROUND_UP:
            continue
        for kernel, stride, after in zip(pool.window_size_nd, pool.stride_nd, pool.post_padding, strict=True):
            if after + stride > kernel:
                raise complaints.rounding_pool(path, trt, layer.name, kernel, stride, after)


def _told(counted: Mapping[str, int]) -> str:
    return " and ".join(f"{count} layers in {name}" for name, count in counted.items()) or "no layers"
