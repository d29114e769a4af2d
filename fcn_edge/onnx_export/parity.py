"""The proof that a file does what the network does, on real photos at awkward sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import onnx
import torch
from torch import nn

from fcn_edge.errors import FcnEdgeError
from fcn_edge.onnx_export.half import rounding
from fcn_edge.spec import ModelSpec

# (H, W): common camera and web sizes, odd ones, and one side as small as the stride
PARITY_SIZES = ((399, 600), (584, 947), (444, 650), (500, 333), (32, 480))


class Bounds(NamedTuple):
    """What a file may differ by from the network in float32."""

    agreement: float  # least part of the labels that are the same
    difference: float  # largest of a score, in standard deviations of all scores at that size; or of a probability


# Labels alone would let doubled scores pass, which heat maps, distillation and a mean of two networks read.
BOUNDS = {
    # The last bits: the variants differ by 3e-6 to 5e-5; the rest is room for another processor's order of summing.
    "fp32": Bounds(0.999, 1e-3),
    # Every value rounded to 11 bits: trained networks keep 99.92 % of the labels and more, with scores within 0.014.
    "fp16": Bounds(0.995, 0.1),
}
# Seeded noise damps no rounding (scores within 0.17), and at some sizes one class is hardly ahead of the next anywhere:
# 27 % of fcn8s-lite's labels stay at 584x947. So here the scores alone say something.
UNTRAINED_FP16 = Bounds(0.2, 0.25)
# Where a network decides by comparing, another rounding sends a few values elsewhere, so a part of the scores counts
# and fewer labels have to agree: PyTorch itself in float64 changes 1.7 % of an untrained SegNet's.
DECIDED, DECIDED_LABELS = 0.75, 0.98


@dataclass(frozen=True)
class Parity:
    """How far the file and PyTorch agree at one network size."""

    size: tuple[int, int]
    label_agreement: float
    largest_difference: float  # of a score; 0 for a file that gives labels
    part: float = 1.0  # of the scores, those that differ least, which that is the largest difference of


def check_parity(
    network: nn.Module,
    spec: ModelSpec,
    file: Path,
    photos: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
    probabilities: bool = False,
    part: float = 1.0,
) -> list[Parity]:
    """Run both on every photo at every size; the network on frames, the file on what its spec says it takes.

    A float16 file is run with each of its values rounded to float16 (`rounding` says why).
    part: of the scores, those that differ least, which has to agree; below 1 fewer labels have to, too.
    Raises FcnEdgeError where labels or scores differ by more than the precision's `BOUNDS`.
    """
    running = session(spec, file)
    bounds = BOUNDS[spec.precision] if spec.trained or spec.precision == "fp32" else UNTRAINED_FP16
    needed = bounds.agreement if part == 1 else min(bounds.agreement, DECIDED_LABELS)
    found = []
    for size in sizes:
        side = (spec.side(size[0]), spec.side(size[1]))
        frames = np.stack([cv2.resize(photo, side[::-1], interpolation=cv2.INTER_AREA) for photo in photos])
        with torch.inference_mode():
            expected = network(torch.from_numpy(frames)).numpy()
        got = np.asarray(running.run(None, {"frame": as_taken(spec, frames)})[0])
        if got.dtype.kind == "f" and not np.isfinite(got).all():
            raise FcnEdgeError(
                f"{spec.name}: at {side[0]}x{side[1]} the {spec.precision} file gives scores that are not finite: "
                "on the way a value leaves float16's range. Nothing was written. Take --precision fp32."
            )
        parity = compare(side, expected, got, part)
        if not parity.label_agreement >= needed:
            raise FcnEdgeError(
                f"{spec.name}: at {side[0]}x{side[1]} {parity.label_agreement:.4%} of the labels agree with PyTorch, "
                f"{needed:.1%} are needed; the largest score difference is {parity.largest_difference:.3g}. "
                "Nothing was written."
            )
        allowed = bounds.difference * (1 if probabilities else float(expected.std()))
        if expected.ndim == 4 and not parity.largest_difference <= allowed:
            raise FcnEdgeError(
                f"{spec.name}: at {side[0]}x{side[1]} the labels agree with PyTorch, but a score differs by "
                f"{parity.largest_difference:.3g}, {allowed:.2g} is allowed. Nothing was written. Look for what the "
                "network decides by the values of its input: a trace keeps one branch."
            )
        found.append(parity)
    return found


def session(spec: ModelSpec, file: Path) -> Any:
    """The file in ONNX Runtime; one with float16 in it as it is written, which optimising would change."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    providers = ["CPUExecutionProvider"]
    if "fp16" not in (spec.precision, spec.remainder):
        return onnxruntime.InferenceSession(str(file), options, providers)
    # Optimised, casts go, and and int8 beside float16 gives wrong labels at every second pixel (1.31).
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(rounding(onnx.load(file)).SerializeToString(), options, providers)


def as_taken(spec: ModelSpec, frames: np.ndarray) -> np.ndarray:
    """Frames, uint8 (N, H, W, 3) in BGR, as the file takes them."""
    if spec.input.layout == "NHWC":
        return frames
    planes = frames[..., ::-1].transpose(0, 3, 1, 2).astype(np.float32)
    if spec.input.mean is None or spec.input.std is None:
        return planes
    mean, std = (np.array(moment, np.float32).reshape(3, 1, 1) for moment in (spec.input.mean, spec.input.std))
    return (planes - mean) / std


def compare(size: tuple[int, int], expected: np.ndarray, got: np.ndarray, part: float = 1.0) -> Parity:
    """Two outputs for the same frames: scores or probabilities (N, C, h, w), or labels (N, H, W).

    part: of the scores, those that differ least, whose largest difference is told.
    """
    if expected.shape != got.shape:
        return Parity(size, 0.0, float("inf"))
    if expected.ndim == 3:
        return Parity(size, float((expected == got).mean()), 0.0)
    agreement = float((expected.argmax(1) == got.argmax(1)).mean())
    differences = np.abs(expected - got)
    return Parity(size, agreement, float(differences.max() if part == 1 else np.quantile(differences, part)), part)
