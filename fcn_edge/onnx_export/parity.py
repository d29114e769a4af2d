"""The proof that a file does what the network does, on real photos at awkward sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from fcn_edge.errors import FcnEdgeError
from fcn_edge.spec import ModelSpec

# (H, W): common camera and web sizes, odd ones, and one side as small as the stride
PARITY_SIZES = ((399, 600), (584, 947), (444, 650), (500, 333), (32, 480))
LEAST_AGREEMENT = 0.999  # of the labels; float32 on both sides differs in the last bits only
# Of a score, in standard deviations of all scores at that size: labels alone would let doubled scores pass, which heat
# maps, distillation and a mean of two networks read. The variants differ by 3e-6 to 5e-5; the rest is room for another
# processor's order of summing.
LARGEST_DIFFERENCE = 1e-3


@dataclass(frozen=True)
class Parity:
    """How far the file and PyTorch agree at one network size."""

    size: tuple[int, int]
    label_agreement: float
    largest_difference: float  # of a score; 0 for a file that gives labels


def check_parity(
    module: nn.Module,
    spec: ModelSpec,
    file: Path,
    photos: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]] = PARITY_SIZES,
) -> list[Parity]:
    """Run both on every photo at every size.

    Raises FcnEdgeError below `LEAST_AGREEMENT`, or where scores differ by more than `LARGEST_DIFFERENCE`.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    found = []
    for size in sizes:
        side = (spec.side(size[0]), spec.side(size[1]))
        frames = np.stack([cv2.resize(photo, side[::-1], interpolation=cv2.INTER_AREA) for photo in photos])
        with torch.inference_mode():
            expected = module(torch.from_numpy(frames)).numpy()
        parity = _compare(side, expected, np.asarray(session.run(None, {"frame": frames})[0]))
        if not parity.label_agreement >= LEAST_AGREEMENT:
            raise FcnEdgeError(
                f"{spec.name}: at {side[0]}x{side[1]} {parity.label_agreement:.4%} of the labels agree with PyTorch, "
                f"{LEAST_AGREEMENT:.1%} are needed; the largest score difference is {parity.largest_difference:.3g}. "
                "Nothing was written."
            )
        allowed = LARGEST_DIFFERENCE * float(expected.std())
        if expected.ndim == 4 and not parity.largest_difference <= allowed:
            raise FcnEdgeError(
                f"{spec.name}: at {side[0]}x{side[1]} the labels agree with PyTorch, but a score differs by "
                f"{parity.largest_difference:.3g}, {allowed:.2g} is allowed. Nothing was written. Look for what the "
                "network decides by the values of its input: a trace keeps one branch."
            )
        found.append(parity)
    return found


def _compare(size: tuple[int, int], expected: np.ndarray, got: np.ndarray) -> Parity:
    if expected.shape != got.shape:
        return Parity(size, 0.0, float("inf"))
    if expected.ndim == 3:
        return Parity(size, float((expected == got).mean()), 0.0)
    agreement = float((expected.argmax(1) == got.argmax(1)).mean())
    return Parity(size, agreement, float(np.abs(expected - got).max()))
