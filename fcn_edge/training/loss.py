"""Pixel-wise losses, averaged over the pixels that carry a label."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from fcn_edge.models.network import Geometry
from fcn_edge.spec import VOID


def label_loss(scores: Tensor, mask: Tensor, geometry: Geometry, stride: int) -> Tensor:
    """Softmax cross-entropy of the upsampled scores on every `stride`-th pixel of `mask`, void left out.

    scores: float (N, C, h, w). mask: integers (N, H, W). Corner-aligned, every `stride`-th pixel is an
    exact position of the smaller upsampling too, which costs the square of `stride` less.
    """
    target = mask[:, ::stride, ::stride].long()
    aligned = geometry.grid == "align_corners"
    upsampled = F.interpolate(scores, target.shape[-2:], mode="bilinear", align_corners=aligned)
    summed = F.cross_entropy(upsampled, target, ignore_index=VOID, reduction="sum")
    return summed / (target != VOID).sum().clamp(min=1)


def soft_loss(scores: Tensor, soft: Tensor) -> Tensor:
    """Cross-entropy against the teacher's probabilities; positions where they are all zero do not count.

    scores, soft: float (N, C, h, w). Hinton et al. 2015, at temperature 1.
    """
    summed = -(soft * F.log_softmax(scores, 1)).sum()
    return summed / soft.sum().clamp(min=1)
