"""What each layer does to the scores where it alone is int8.

One layer's harm drowns in the noise of mean IoU, and each look at that takes minutes. In the class probabilities of a
few calibration pictures it is plain, and needs no labels. Computed with int8 emulated in float32, so that the ranking
does not depend on the CPU at hand: kernels without VNNI saturate.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fcn_edge.errors import FcnEdgeError
from fcn_edge.prepare import Size
from fcn_edge.quantization.observe import frame_of
from fcn_edge.quantization.qdq import WeightBits, layers, quantise
from fcn_edge.quantization.thresholds import Ranges
from fcn_edge.spec import ModelSpec

PICTURES = 8  # 25,000 places of the scores of a network at 513 pixels


@dataclass(frozen=True)
class Harm:
    """What a layer does to the scores."""

    divergence: float  # Kullback-Leibler, nats a place: of the class probabilities from float32's
    changed: float  # share of the places whose label is another


def harms(
    model: onnx.ModelProto,
    spec: ModelSpec,
    ranges: Ranges,
    pictures: Sequence[Path],
    size: int | Size | None = None,
    names: Iterable[str] | None = None,
    weight_bits: WeightBits = 8,
) -> Iterator[tuple[str, Harm]]:
    """Each layer of `layers(model)` and its harm on a few pictures, taken evenly from `pictures`.

    names:  of the layers; all where None.
    Raises FcnEdgeError where the file's output is not scores, DataError for a picture that cannot be read.
    """
    if spec.output.kind != "scores":
        raise FcnEdgeError(
            f"{spec.name} gives labels, which do not tell a layer's harm: export it with --output scores."
        )
    found = [layer.name for layer in layers(model)]
    step = max(1.0, len(pictures) / PICTURES)
    chosen = [pictures[int(index * step)] for index in range(min(PICTURES, len(pictures)))]
    frames = [frame_of(spec, path, size) for path in chosen]
    expected = _scores(model, frames)
    for name in found if names is None else names:
        alone = quantise(model, ranges, [other for other in found if other != name], spec.name, weight_bits=weight_bits)
        yield name, harm(expected, _scores(alone, frames))


def harm(expected: Sequence[np.ndarray], got: Sequence[np.ndarray]) -> Harm:
    """Of scores (N, C, h, w) against float32's, each weighing as many places as it has."""
    divergence, changed, places = 0.0, 0, 0
    for right, other in zip(expected, got, strict=True):
        log_p, log_q = _log_softmax(right), _log_softmax(other)
        divergence += float((np.exp(log_p) * (log_p - log_q)).sum())
        changed += int((right.argmax(1) != other.argmax(1)).sum())
        places += right[:, 0].size
    return Harm(divergence / places, changed / places)


def multiply_adds(model: onnx.ModelProto, spec: ModelSpec) -> dict[str, int]:
    """Of each convolution, on a square frame of the model's own size."""
    weights = {weight.name: weight.dims for weight in model.graph.initializer}
    convolutions = [node for node in model.graph.node if node.op_type == "Conv" and node.input[1] in weights]
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    del watched.graph.output[:]
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None) for node in convolutions
    )
    side = spec.side(spec.size)
    frame = np.zeros((1, side, side, 3) if spec.input.layout == "NHWC" else (1, 3, side, side), spec.input.dtype)
    outputs = _session(watched).run(None, {watched.graph.input[0].name: frame})
    return {
        node.name: int(np.prod(weights[node.input[1]]) * np.prod(np.shape(output)[2:]))
        for node, output in zip(convolutions, outputs, strict=True)
    }


def _scores(model: onnx.ModelProto, frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    session = _session(model)
    return [np.asarray(session.run(None, {model.graph.input[0].name: frame})[0], np.float64) for frame in frames]


def _session(model: onnx.ModelProto) -> Any:
    """The model in ONNX Runtime, told to compute Q/DQ as they stand: rounded values in float32, on any CPU alike."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.enable_cpu_mem_arena = False  # it keeps the largest picture's memory, twice over
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _log_softmax(scores: np.ndarray) -> np.ndarray:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
