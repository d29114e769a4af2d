"""Strides that are left out, and what keeps every later filter on the samples that it was trained on.

A network without its last strides gives the same features more densely, from the same weights, if each layer behind a
missing stride reads its input that many times as far apart: Chen et al. 2015, section 3.1, and 2017, section 3.1. The
layer that loses its stride is not yet behind it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Step(NamedTuple):
    """How a layer goes over its input."""

    stride: int
    dilation: int  # the atrous rate: from one sample that a filter reads to the next


def dilated(strides: Iterable[int], output_stride: int) -> list[Step]:
    """Layers of these strides, one after the other, that reduce by no more than `output_stride` together."""
    reached, dilation = 1, 1
    steps: list[Step] = []
    for stride in strides:
        if reached * stride > output_stride:
            steps.append(Step(1, dilation))
            dilation *= stride
        else:
            steps.append(Step(stride, dilation))
            reached *= stride
    return steps
